//! The language that somebody reads, as a tag of BCP 47 (RFC 5646). Its registry is not consulted.

/// A tag such as `es-MX`, with the letters' case as RFC 5646, 2.1.1, advises, so that equal ones are equal texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locale(String);

impl Locale {
    /// The tag `tag`. One that is empty or malformed is like a language that nobody writes in.
    #[must_use]
    pub fn new(tag: &str) -> Self {
        let mut parts: Vec<String> = Vec::new();
        let mut private = false;
        for part in tag.split(['-', '_']) {
            let lower = part.to_ascii_lowercase();
            let cased = match (parts.len(), part.len()) {
                (0, _) => lower.clone(),
                _ if private => lower.clone(),
                (_, 2) => part.to_ascii_uppercase(),
                (_, 4) if part.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                    let (first, rest) = lower.split_at(1);
                    first.to_ascii_uppercase() + rest
                }
                _ => lower.clone(),
            };
            // After a single letter or digit come extensions, which are in lower case.
            private |= part.len() == 1;
            parts.push(cased);
        }
        Self(parts.join("-"))
    }

    /// The tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The language alone, such as `es`.
    #[must_use]
    pub fn language(&self) -> &str {
        self.0.split('-').next().unwrap_or_default()
    }

    /// The region, such as `MX` or `419`; unset where the tag has none.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        let before_extensions = self.0.split('-').skip(1).take_while(|part| part.len() > 1);
        let is_region = |part: &&str| match part.len() {
            2 => true,
            3 => part.bytes().all(|byte| byte.is_ascii_digit()),
            _ => false,
        };
        before_extensions.into_iter().find(is_region)
    }

    /// The tag, then ever less of it, down to the language (RFC 4647, 3.4).
    pub fn and_broader(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |tag| {
            let shorter = tag.rsplit_once('-')?.0;
            // A single letter or digit says nothing without what followed it.
            Some(shorter.rsplit_once('-').filter(|(_, last)| last.len() == 1).map_or(shorter, |(rest, _)| rest))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_one_spelling_and_parts() {
        for (tag, spelt, language, region) in [
            ("en", "en", "en", None),
            ("EN-us", "en-US", "en", Some("US")),
            ("es-419", "es-419", "es", Some("419")),
            ("zh-hANT-tw", "zh-Hant-TW", "zh", Some("TW")),
            ("sl-rozaj-biske", "sl-rozaj-biske", "sl", None),
            ("de-CH-1996-x-ab-CD", "de-CH-1996-x-ab-cd", "de", Some("CH")),
            ("en-u-ca-US", "en-u-ca-us", "en", None),
            ("", "", "", None),
        ] {
            let locale = Locale::new(tag);
            assert_eq!((locale.as_str(), locale.language(), locale.region()), (spelt, language, region), "{tag}");
        }
    }

    #[test]
    fn a_tag_gets_broader_part_by_part() {
        let broader = |tag: &str| Locale::new(tag).and_broader().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(broader("zh-Hant-TW"), ["zh-Hant-TW", "zh-Hant", "zh"]);
        assert_eq!(broader("es-MX-x-old"), ["es-MX-x-old", "es-MX", "es"]);
        assert_eq!(broader("es"), ["es"]);
    }
}
