//! Comments of the contract as HTML: paragraphs, lists, and links to what they name.

use std::{collections::BTreeMap, mem};

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};

/// Why a call fails: its values stand in comments without their prefix.
const REASONS: (&str, &str) = ("ErrorReason", "ERROR_REASON_");

/// What a comment may name, and where that is on the page.
pub(super) struct Names {
    places: BTreeMap<String, String>,
    reasons: BTreeMap<String, String>,
}

impl Names {
    pub(super) fn new(files: &[&FileDescriptorProto]) -> Self {
        let mut names = Self { places: BTreeMap::new(), reasons: BTreeMap::new() };
        for file in files {
            for service in &file.service {
                names.add(service.name());
                for method in &service.method {
                    let place = format!("{}.{}", service.name(), method.name());
                    names.places.insert(method.name().to_owned(), place.clone());
                    names.add(&place);
                }
            }
            file.message_type.iter().for_each(|message| names.message(message.name(), message));
            file.enum_type.iter().for_each(|each| names.enumeration(each.name(), each));
        }
        names
    }

    fn message(&mut self, name: &str, message: &DescriptorProto) {
        self.add(name);
        message.field.iter().for_each(|field| self.add(&format!("{name}.{}", field.name())));
        message.nested_type.iter().for_each(|nested| self.message(&format!("{name}.{}", nested.name()), nested));
        message.enum_type.iter().for_each(|nested| self.enumeration(&format!("{name}.{}", nested.name()), nested));
    }

    fn enumeration(&mut self, name: &str, each: &EnumDescriptorProto) {
        self.add(name);
        for value in &each.value {
            let place = format!("{name}.{}", value.name());
            if let Some(reason) = value.name().strip_prefix(REASONS.1).filter(|_| name == REASONS.0) {
                self.reasons.insert(reason.to_owned(), place.clone());
            }
            self.places.insert(value.name().to_owned(), place);
        }
    }

    fn add(&mut self, place: &str) {
        self.places.insert(place.to_owned(), place.to_owned());
    }

    /// A comment as HTML. Where it speaks of errors, words like `NOT_FOUND` are reasons and no status codes.
    pub(super) fn prose(&self, comment: &str, speaks_of_errors: bool) -> String {
        let mut html = String::new();
        let mut listed = false;
        for block in blocks(comment) {
            let (tag, text) = match &block {
                Block::Paragraph(text) => ("p", text),
                Block::Item(text) => ("li", text),
            };
            if listed != (tag == "li") {
                html += if listed { "</ul>\n" } else { "<ul>\n" };
                listed = !listed;
            }
            html += &format!("<{tag}>{}</{tag}>\n", self.words(text, speaks_of_errors));
        }
        if listed { html + "</ul>\n" } else { html }
    }

    fn words(&self, text: &str, speaks_of_errors: bool) -> String {
        let mut html = String::new();
        let mut word = String::new();
        for letter in text.chars().chain(['\n']) {
            if letter.is_ascii_alphanumeric() || letter == '_' || letter == '.' {
                word.push(letter);
                continue;
            }
            html += &self.word(&mem::take(&mut word), speaks_of_errors);
            html += &escape(letter.encode_utf8(&mut [0; 4]));
        }
        html.truncate(html.trim_end().len());
        html
    }

    fn word(&self, word: &str, speaks_of_errors: bool) -> String {
        let name = word.trim_end_matches('.');
        let place = self.places.get(name).filter(|_| is_a_name(name));
        match place.or_else(|| self.reasons.get(name).filter(|_| speaks_of_errors)) {
            Some(place) => format!("<a href=\"#{place}\">{name}</a>{}", &word[name.len()..]),
            None => escape(word),
        }
    }
}

/// Not an ordinary word that begins a sentence, like Delivery.
fn is_a_name(word: &str) -> bool {
    word.contains(['.', '_']) || word.chars().skip(1).any(|letter| letter.is_ascii_uppercase())
}

enum Block {
    Paragraph(String),
    Item(String),
}

fn blocks(comment: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut fresh = true;
    for line in comment.lines() {
        let (text, indented) = (line.trim(), line.starts_with("   "));
        let item = text.strip_prefix("* ");
        match (item, blocks.last_mut()) {
            _ if text.is_empty() => {}
            (Some(item), _) => blocks.push(Block::Item(item.to_owned())),
            (None, Some(Block::Item(last))) if indented => *last += &format!("\n{text}"),
            (None, Some(Block::Paragraph(last))) if !fresh => *last += &format!("\n{text}"),
            (None, _) => blocks.push(Block::Paragraph(text.to_owned())),
        }
        fresh = text.is_empty();
    }
    blocks
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
