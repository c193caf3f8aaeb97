//! The two parts of a mail: text and HTML with the same facts, both signed and with the way out.

use super::{
    Choice, Escape, RenderError, Rendering, Token, Values,
    filled::{self, Fill, Filled},
    html, layout,
    source::LONGEST_OUTPUT,
};

/// The lines of the text, and the page.
pub(super) fn parts(
    ask: &Rendering,
    choice: &Choice,
    text: Fill,
    (subject, values): (&str, &Values),
) -> Result<(Vec<Filled>, String), RenderError> {
    let mut own = own_html(choice, &text, values)?;
    let mut lines = text.lines;
    if let Some(mark) = choice.test_mark(ask) {
        own = own.map(|own| format!("<p>{mark}</p>\n{own}"));
        lines.splice(..0, [Filled::Words(mark.to_owned()), Filled::Blank]);
    }
    filled::sign(&mut lines, values);
    if let Some(address) = ask.unsubscribe {
        filled::sign_off(&mut lines, choice.language().unsubscribe(), address);
    }
    let frame = layout::Frame {
        language: choice.locale.as_str(),
        names: [values.get(Token::PracticeName), values.get(Token::LegalName)],
        phone: values.get(Token::PracticePhone),
        subject,
        preview: &choice.compiled.preview.render(values, Escape::None)?,
    };
    let page = layout::html(&frame, &lines, own.as_deref());
    if page.len() > LONGEST_OUTPUT {
        return Err(RenderError::TooLong);
    }
    Ok((lines, page))
}

/// The practice's own HTML; none where it says less than the text, or where a value makes something else of it than its author saw.
fn own_html(choice: &Choice, text: &Fill, values: &Values) -> Result<Option<String>, RenderError> {
    let Some(source) = &choice.compiled.html else { return Ok(None) };
    let link = values.get(Token::Link);
    let fill = source.fill(values, Escape::Html)?;
    let as_seen = source.skeleton(fill.kept.iter().copied(), "", |link| if link { html::LINK } else { html::VALUE });
    let made = filled::joined(&fill.lines);
    let good = fill.says_all_of(text, values) && html::is_shaped_alike(&made, &as_seen, link);
    let cleaned = html::cleaned(&made, link);
    Ok(Some(cleaned).filter(|cleaned| good && !html::shows_nothing(cleaned)))
}
