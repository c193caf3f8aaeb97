//! How a text is read before its words are: without what cannot be seen, in small letters without accents, as clauses.

use super::pattern::Clause;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Nothing longer is a text message (Twilio: 1,600 characters); what is beyond is not read.
const LONGEST: usize = 2_000;

/// Letters that look like a Latin one: Cyrillic and Greek ones (Unicode Technical Standard 39, confusables.txt), the phonetic
/// alphabet's small capitals, and the naught. Only of Latin letters that a keyword has.
const LOOK_ALIKES: &[(char, &str)] = &[
    ('a', "АаΑαᴀ"),
    ('b', "ВвЬΒʙ"),
    ('c', "СсϹϲᴄ"),
    ('d', "ԁᴅ"),
    ('e', "ЕеΕᴇ"),
    ('f', "ꜰ"),
    ('h', "НнҺһΗʜ"),
    ('i', "ІіΙιıɪ"),
    ('k', "КкΚκᴋ"),
    ('l', "Ӏӏʟ"),
    ('n', "Νηɴ"),
    ('o', "ОоΟοσᴏ0"),
    ('p', "РрΡρᴘ"),
    ('q', "Ԛԛꞯ"),
    ('r', "гʀ"),
    ('s', "Ѕѕꜱ"),
    ('t', "ТтΤτᴛ"),
    ('u', "υᴜ"),
    ('v', "Ѵѵνᴠ"),
    ('y', "УуҮүΥγʏ"),
];

/// The text in small letters without accents.
pub(super) fn plain(text: &str) -> String {
    letters(text).flat_map(char::to_lowercase).collect()
}

/// The text as one word, of letters and digits as they look.
pub(in crate::domain) fn word(text: &str) -> String {
    letters(text).map(latin).flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect()
}

/// What is seen of a text, without accents. Letters from keyboards of another width, or in circles, are those they stand for.
fn letters(text: &str) -> impl Iterator<Item = char> {
    let seen = text.chars().filter(|c| !is_default_ignorable(*c)).take(LONGEST);
    // Before the accents go: an acute accent of its own, which Spanish keyboards have for an apostrophe, is one of them.
    let seen = seen.map(|c| if is_apostrophe(c) { '\'' } else { c });
    seen.nfkd().filter(|c| !is_combining_mark(*c))
}

/// What is not seen unless a font lacks it: Default_Ignorable_Code_Point of Unicode Standard Annex 44.
const fn is_default_ignorable(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Signs that look like an apostrophe (Unicode Technical Standard 39, confusables.txt).
const fn is_apostrophe(c: char) -> bool {
    matches!(
        c,
        '\'' | '`'
            | '´'
            | 'ʹ'
            | 'ʻ'
            | 'ʼ'
            | 'ʽ'
            | 'ʾ'
            | 'ʿ'
            | 'ˈ'
            | 'ˊ'
            | 'ˋ'
            | '΄'
            | '՚'
            | '‘'
            | '’'
            | '‛'
            | '′'
            | '‵'
            | 'ꞌ'
            | '＇'
            | '｀'
    )
}

/// The Latin letter that `c` looks like, or `c`.
fn latin(c: char) -> char {
    let first = match c {
        // White on black, in circles and in squares, and those that flags are made of. Nothing else decomposes to these.
        '🅐'..='🅩' => '🅐',
        '🅰'..='🆉' => '🅰',
        '🇦'..='🇿' => '🇦',
        _ => {
            let known = LOOK_ALIKES.iter().find(|(_, alike)| alike.contains(c));
            return known.map_or(c, |(latin, _)| *latin);
        }
    };
    char::from_u32(u32::from('a') + u32::from(c) - u32::from(first)).unwrap_or(c)
}

/// The clauses of a text, each as words. An apostrophe belongs to its word and is left out; any other sign parts words, and
/// those that end or divide a sentence part clauses. A dash does where there is room about it.
pub(super) fn clauses(plain: &str) -> Vec<Clause> {
    let plain = plain
        .replace("non - stop", "nonstop")
        .replace("wrong #", "wrong number")
        .replace('—', ", ")
        .replace(" - ", ", ")
        .replace(" – ", ", ");
    let mut clauses = Vec::new();
    let (mut words, mut word) = (Vec::new(), String::new());
    for c in plain.chars().chain(['.']) {
        match c {
            '\'' => {}
            c if c.is_alphanumeric() => word.push(c),
            c => {
                if !word.is_empty() {
                    words.push(even(&std::mem::take(&mut word)));
                }
                if matches!(c, '.' | '!' | '?' | ';' | ':' | ',' | '\n' | '¿' | '¡' | '(' | ')') && !words.is_empty()
                {
                    clauses.push(Clause::new(std::mem::take(&mut words), c == '?'));
                }
            }
        }
    }
    clauses
}

/// A word without what impatience adds: of three equal letters or more one is left.
fn even(word: &str) -> String {
    let mut even: Vec<char> = Vec::with_capacity(word.len());
    let letters: Vec<char> = word.chars().collect();
    for run in letters.chunk_by(|one, other| one == other) {
        let kept = if run.len() > 2 && run.iter().all(|c| c.is_alphabetic()) { 1 } else { run.len() };
        even.extend(run.iter().take(kept));
    }
    even.into_iter().collect()
}
