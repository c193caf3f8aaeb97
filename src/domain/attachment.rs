//! ◆ Files that belong to messages: which types there are, whether a content is what it is said to be, and what may go by text.

use chrono::TimeDelta;

use super::{AttachmentId, Phi, delivery::numbered};

/// The largest file that is uploaded, in bytes.
pub const LARGEST_UPLOAD: usize = 3 * 1024 * 1024;
/// The largest file that is fetched from a provider, in bytes: Twilio takes no larger one
/// (twilio.com/docs/messaging/guides/accepted-mime-types).
pub const LARGEST_FETCHED: usize = 5 * 1024 * 1024;
/// How long an uploaded file waits to be sent (contract, `UploadAttachment`).
pub const UNSENT_FILES_KEPT: TimeDelta = TimeDelta::hours(24);
/// Most files of one message. Twilio refuses more with 21623.
pub const MOST_ATTACHMENTS: usize = 10;
/// What the files of one text may have together, in bytes.
const MOST_BY_TEXT: u64 = 5 * 1024 * 1024;
/// What a file of a text may have that is no picture, in bytes.
const MOST_BY_TEXT_UNLESS_PICTURE: u64 = 500 * 1024;

numbered! {
    /// Where a file stands.
    AttachmentState {
        /// It is being fetched from the provider.
        Pending = 1,
        /// It is here.
        Ready = 2,
        /// It could not be fetched, or was refused as unsafe.
        Failed = 3,
        /// It was here, and was removed by retention.
        Removed = 4,
    }
}

/// A file, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its id.
    pub id: AttachmentId,
    /// What it is called.
    pub file_name: Phi<String>,
    /// Such as `image/jpeg`; of one that a provider has, what that says it is.
    pub media_type: String,
    /// Its size in bytes; 0 while it is not known.
    pub size: i64,
    /// Where it stands.
    pub state: AttachmentState,
}

/// The types of files that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// A picture.
    Jpeg,
    /// A picture.
    Png,
    /// A picture.
    Gif,
    /// A document.
    Pdf,
    /// Plain text in UTF-8.
    Text,
}

impl MediaType {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Jpeg, Self::Png, Self::Gif, Self::Pdf, Self::Text];

    /// The name in the registry of IANA.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::Pdf => "application/pdf",
            Self::Text => "text/plain",
        }
    }

    /// How names of such files end.
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Gif => "gif",
            Self::Pdf => "pdf",
            Self::Text => "txt",
        }
    }

    /// The type that is called so, in whatever letters and with whatever parameters, such as a charset.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        let name = text.split(';').next().unwrap_or_default().trim();
        // Never registered, and in use all the same.
        if name.eq_ignore_ascii_case("image/jpg") {
            return Some(Self::Jpeg);
        }
        Self::ALL.into_iter().find(|kind| name.eq_ignore_ascii_case(kind.name()))
    }

    /// What `content` is, whatever is said of it; unset: none of these. What begins like another is no text.
    #[must_use]
    pub fn of(content: &[u8]) -> Option<Self> {
        // ITU-T T.81, B.1.1.3; PNG (W3C), 5.2; GIF89a, 17; ISO 32000-1, 7.5.2.
        const SIGNATURES: [(&[u8], MediaType); 5] = [
            (b"\xff\xd8\xff", MediaType::Jpeg),
            (b"\x89PNG\r\n\x1a\n", MediaType::Png),
            (b"GIF87a", MediaType::Gif),
            (b"GIF89a", MediaType::Gif),
            (b"%PDF-", MediaType::Pdf),
        ];
        let known = SIGNATURES.iter().find(|(signature, _)| content.starts_with(signature));
        known.map(|(_, kind)| *kind).or_else(|| is_text(content).then_some(Self::Text))
    }

    const fn is_picture(self) -> bool {
        matches!(self, Self::Jpeg | Self::Png | Self::Gif)
    }
}

/// Whether it is UTF-8 of which nothing but lines and tabs does something.
fn is_text(content: &[u8]) -> bool {
    let plain = |text: &str| text.chars().all(|char| !char.is_control() || matches!(char, '\n' | '\r' | '\t'));
    std::str::from_utf8(content).is_ok_and(plain)
}

/// What keeps files from going by text, each with its place; together they have none.
#[must_use]
pub fn hindrances_by_text(files: &[Attachment]) -> Vec<(Option<usize>, &'static str)> {
    let size = |file: &Attachment| u64::try_from(file.size).unwrap_or(u64::MAX);
    let is_picture = |file: &Attachment| MediaType::from_name(&file.media_type).is_some_and(MediaType::is_picture);
    let large =
        files.iter().enumerate().filter(|(_, file)| !is_picture(file) && size(file) > MOST_BY_TEXT_UNLESS_PICTURE);
    let mut found: Vec<_> = large
        .map(|(place, _)| (Some(place), "is too large to go by text: at most 500 KiB unless it is a picture"))
        .collect();
    if files.iter().map(size).fold(0, u64::saturating_add) > MOST_BY_TEXT {
        found.push((None, "are too large to go by text: at most 5 MiB together"));
    }
    found
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_content_is_what_it_begins_with_and_text_only_if_it_is_nothing_else() {
        for (content, expected) in [
            (&b"\xff\xd8\xff\xe0\x00\x10JFIF"[..], Some(MediaType::Jpeg)),
            (b"\x89PNG\r\n\x1a\n\x00\x00", Some(MediaType::Png)),
            (b"GIF87a\x01", Some(MediaType::Gif)),
            (b"GIF89a\x01", Some(MediaType::Gif)),
            (b"%PDF-1.7\n", Some(MediaType::Pdf)),
            ("Grüße,\r\n\tPat 👍".as_bytes(), Some(MediaType::Text)),
            (b"", Some(MediaType::Text)),
            (b"<script>alert(1)</script>", Some(MediaType::Text)),
            (b"GIF88a\x01", None),
            (b"\x89PNG", None),
            (b"\xff\xd8", None),
            (b"MZ\x90\x00\x03", None),
            (b"PK\x03\x04", None),
            (b"a\x00b", None),
            (b"a\x1b[2Jb", None),
            ("a\u{85}b".as_bytes(), None),
            (b"caf\xe9", None),
        ] {
            assert_eq!(MediaType::of(content), expected, "{content:?}");
        }
    }

    #[test]
    fn types_are_known_by_their_names_in_any_letters() {
        for kind in MediaType::ALL {
            assert_eq!(MediaType::from_name(kind.name()), Some(kind));
            assert_eq!(MediaType::from_name(&kind.name().to_uppercase()), Some(kind));
        }
        assert_eq!(MediaType::from_name("text/plain; charset=UTF-8"), Some(MediaType::Text));
        assert_eq!(MediaType::from_name("image/jpg"), Some(MediaType::Jpeg));
        for other in ["", "image", "image/svg+xml", "text/html", "application/octet-stream", "video/mp4"] {
            assert_eq!(MediaType::from_name(other), None, "{other}");
        }
    }

    #[test]
    fn what_goes_by_text_is_limited_each_and_together() {
        const KIB: i64 = 1024;
        let file = |media_type: &str, size| Attachment {
            id: AttachmentId(Uuid::nil()),
            file_name: Phi::default(),
            media_type: media_type.into(),
            size,
            state: AttachmentState::Ready,
        };
        let places = |files: &[Attachment]| -> Vec<Option<usize>> {
            hindrances_by_text(files).into_iter().map(|(place, _)| place).collect()
        };
        let picture = file("image/png", 2 * 1024 * KIB);
        assert_eq!(places(&[]), []);
        assert_eq!(places(&[picture.clone(), file("application/pdf", 500 * KIB), picture.clone()]), []);
        assert_eq!(places(&[picture.clone(), file("application/pdf", 500 * KIB + 1)]), [Some(1)]);
        assert_eq!(places(&[file("text/plain", 600 * KIB), file("x/y", 600 * KIB)]), [Some(0), Some(1)]);
        assert_eq!(places(&[picture.clone(), picture.clone(), file("image/gif", 1024 * KIB)]), []);
        assert_eq!(places(&[picture.clone(), picture.clone(), file("image/gif", 1024 * KIB + 1)]), [None]);
    }
}
