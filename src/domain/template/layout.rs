//! Mail in HTML, made from the lines of its text: the same facts, in one calm layout. It loads nothing from anywhere,
//! and everything in it is escaped whole.
//!
//! Mail programs understand the HTML of long ago: tables for layout, styles on each element. What the `<style>` adds, dark
//! colours and narrow screens, may be lost without harm. All pairs of colours have a contrast of at least 4.5 to 1
//! (WCAG 2.2, AA).

mod run;

use self::run::Run;
use super::{filled::Filled, source::escape_html};

/// What stands around the text.
pub(super) struct Frame<'a> {
    /// The language of the whole (BCP 47).
    pub(super) language: &'a str,
    /// The practice's short name, at the head, and its legal one.
    pub(super) names: [&'a str; 2],
    /// The practice's number, as people write it; may be empty.
    pub(super) phone: &'a str,
    /// The title of the page.
    pub(super) subject: &'a str,
    /// What a mailbox shows beside the subject.
    pub(super) preview: &'a str,
}

const FONT: &str = "font-family:-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,Helvetica,Arial,sans-serif";

/// A practice's own HTML is kept within the card, however wide it was made.
const STYLE: &str = "\
.own>:first-child{margin-top:0!important}.own *{min-width:0!important;max-width:100%!important}\
.own pre{white-space:pre-wrap!important}
@media (max-width:480px){.outer{padding:0!important}.card{border-radius:0!important;border-width:0 0 1px!important}\
.inner{padding-left:20px!important;padding-right:20px!important}.own table{width:100%!important}\
.button{width:100%!important}.button a{display:block!important;text-align:center!important}}";

const DARK: &str = "
@media (prefers-color-scheme:dark){.page{background:#12181f!important}.card,.line{border-color:#34414e!important}\
.card{background:#1b242d!important}.ink{color:#e8edf2!important}.soft{color:#aab7c4!important}\
.link{color:#8ec5ff!important}.fill{background:#1a6fc4!important}}";

/// The page for `lines`, whose values are not escaped yet. `own` stands in the place of those above the signature, as it is.
pub(super) fn html(frame: &Frame, lines: &[Filled], own: Option<&str>) -> String {
    let (body, footer) = match lines.iter().position(Filled::is_signature) {
        Some(at) => (lines.get(..at).unwrap_or_default(), lines.get(at + 1..).unwrap_or_default()),
        None => (lines, &[][..]),
    };
    let run = Run { names: frame.names, phone: frame.phone };
    let body = match own {
        Some(own) => format!("<div class=\"own\">{own}</div>\n"),
        None => body.split(|line| *line == Filled::Blank).map(|lines| paragraph(lines, &run)).collect(),
    };
    let footer: Vec<_> = footer.iter().map(|line| small(line, &run)).collect();
    // The colours of a practice's own HTML are made for a light ground.
    let (schemes, dark) = if own.is_some() { ("light", "") } else { ("light dark", DARK) };
    page(frame, (schemes, dark), &body, &footer.join("<br>"))
}

/// The page, for these colour schemes, with what is said of the second of them.
fn page(frame: &Frame, (schemes, dark): (&str, &str), body: &str, footer: &str) -> String {
    let [language, name, subject, preview] =
        [frame.language, frame.names[0], frame.subject, frame.preview].map(escape_html);
    let right_to_left =
        ["ar", "fa", "he", "ps", "ur", "yi"].contains(&frame.language.split('-').next().unwrap_or_default());
    let direction = if right_to_left { "rtl" } else { "ltr" };
    // Without this a mailbox goes on with the text itself, and shows details before the mail is opened.
    let blanks = "&#847;&zwnj;&nbsp;".repeat(90);
    format!(
        r#"<!DOCTYPE html>
<html lang="{language}" dir="{direction}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="{schemes}">
<meta name="supported-color-schemes" content="{schemes}">
<title>{subject}</title>
<style>
:root{{color-scheme:{schemes};supported-color-schemes:{schemes}}}
{STYLE}{dark}
</style>
</head>
<body class="page" style="margin:0;padding:0;background:#f3f5f7;-webkit-text-size-adjust:100%">
<div style="display:none;max-height:0;overflow:hidden;opacity:0">{preview}{blanks}</div>
<table role="presentation" class="page" width="100%" cellpadding="0" cellspacing="0" border="0" style="background:#f3f5f7">
<tr><td class="outer" align="center" style="padding:32px 16px">
<table role="presentation" class="card" width="100%" cellpadding="0" cellspacing="0" border="0" style="max-width:600px;table-layout:fixed;background:#ffffff;border:1px solid #dde3e9;border-radius:12px;border-collapse:separate">
<tr><td class="inner line ink" style="padding:24px 32px;border-bottom:1px solid #e6eaee;{FONT};font-size:18px;line-height:1.35;font-weight:600;color:#1f2a37"><bdi>{name}</bdi></td></tr>
<tr><td class="inner ink" style="padding:28px 32px 12px;{FONT};font-size:16px;line-height:1.55;color:#1f2a37;word-break:break-word">
{body}</td></tr>
<tr><td class="inner line soft" style="padding:20px 32px 24px;border-top:1px solid #e6eaee;{FONT};font-size:13px;line-height:1.6;color:#566573;word-break:break-word">{footer}</td></tr>
</table>
</td></tr>
</table>
</body>
</html>
"#
    )
}

/// One paragraph: words, then details, then the link, whichever it has.
fn paragraph(lines: &[Filled], run: &Run) -> String {
    let words: Vec<_> = lines.iter().filter_map(|line| words(line, run)).collect();
    let rows: String = lines.iter().filter_map(|line| row(line, run)).collect();
    let mut html = String::new();
    if !words.is_empty() {
        html.push_str(&format!("<p style=\"margin:0 0 16px\">{}</p>\n", words.join("<br>")));
    }
    if !rows.is_empty() {
        html.push_str(&format!(
            "<table role=\"presentation\" class=\"line\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\" \
             style=\"margin:4px 0 20px;border-top:1px solid #e6eaee\">\n{rows}</table>\n"
        ));
    }
    html.extend(lines.iter().filter_map(button));
    html
}

fn words(line: &Filled, run: &Run) -> Option<String> {
    let Filled::Words(words) = line else { return None };
    Some(run.html(words))
}

fn row(line: &Filled, run: &Run) -> Option<String> {
    let Filled::Detail(label, value) = line else { return None };
    let (label, value) = (escape_html(label), run.apart(value));
    let cell = format!("border-bottom:1px solid #e6eaee;{FONT};line-height:1.45;vertical-align:top");
    Some(format!(
        "<tr><td class=\"line soft\" width=\"28%\" style=\"padding:11px 12px 9px 0;word-break:normal;{cell};font-size:14px;color:#566573\">{label}</td>\
         <td class=\"line ink\" style=\"padding:10px 0;{cell};font-size:16px;color:#1f2a37\">{value}</td></tr>\n"
    ))
}

/// A line of small print, in which a link is its label. Each is read in its own direction: the number of a practice whose name is
/// Hebrew is not.
fn small(line: &Filled, run: &Run) -> String {
    match line {
        Filled::Link(label, address) => {
            let (label, address) = (escape_html(label), escape_html(address));
            format!("<a class=\"soft\" href=\"{address}\" style=\"color:#566573\">{label}</a>")
        }
        line => run.apart(&line.to_string()),
    }
}

/// The button, and under it the address itself, for those whose mail program shows no buttons and those who want to see
/// where it leads.
fn button(line: &Filled) -> Option<String> {
    let Filled::Link(label, address) = line else { return None };
    let (label, address) = (escape_html(label), escape_html(address));
    Some(format!(
        "<table role=\"presentation\" class=\"button\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\" style=\"margin:24px 0 10px\">\
         <tr><td class=\"fill\" bgcolor=\"#0b5cad\" style=\"border-radius:8px;background:#0b5cad\"><a href=\"{address}\" \
         style=\"display:inline-block;padding:13px 28px;{FONT};font-size:16px;font-weight:600;line-height:1.3;color:#ffffff;\
         text-decoration:none\">{label}</a></td></tr></table>\n\
         <p class=\"soft\" style=\"margin:0 0 24px;font-size:13px;color:#566573;word-break:break-all\">\
         <a class=\"link\" href=\"{address}\" style=\"color:#0b5cad\">{address}</a></p>\n"
    ))
}
