//! Colours, and how well one is read on another.

/// A colour, as parts of red, green and blue from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Colour([f32; 3]);

impl Colour {
    pub(super) const fn new(red: u8, green: u8, blue: u8) -> Self {
        Self([red as f32 / 255.0, green as f32 / 255.0, blue as f32 / 255.0])
    }

    /// Reads a name, `#` and digits, `rgb()` or `hsl()` in small letters. None of them is seen through.
    pub(super) fn read(value: &str) -> Option<Self> {
        if let Some(hash) = value.strip_prefix('#') {
            let (red, green, blue, opaque) = cssparser::color::parse_hash_color(hash.as_bytes()).ok()?;
            return (opaque >= 1.0).then_some(Self::new(red, green, blue));
        }
        let function = |name: &str| value.strip_prefix(name)?.trim_start().strip_prefix('(')?.strip_suffix(')');
        if let Some(parts) = function("rgb") {
            return Self::rgb(numbers(parts)?);
        }
        if let Some(parts) = function("hsl") {
            return Self::hsl(numbers(parts)?);
        }
        let (red, green, blue) = cssparser::color::parse_named_color(value).ok()?;
        Some(Self::new(red, green, blue))
    }

    fn rgb(parts: [(f32, bool); 3]) -> Option<Self> {
        Some(Self(parts.map(|(number, percent)| (number / if percent { 100.0 } else { 255.0 }).min(1.0))))
    }

    /// By CSS Color Module Level 4, 7.1.
    fn hsl(parts: [(f32, bool); 3]) -> Option<Self> {
        let [(hue, false), (saturation, true), (light, true)] = parts else { return None };
        let [saturation, light] = [saturation, light].map(|part| (part / 100.0).min(1.0));
        let part = |offset: f32| {
            let place = (offset + hue / 30.0) % 12.0;
            light - saturation * light.min(1.0 - light) * (place - 3.0).min(9.0 - place).clamp(-1.0, 1.0)
        };
        Some(Self([part(0.0), part(8.0), part(4.0)]))
    }

    /// From 1, the same, to 21, black on white (WCAG 2.2, contrast ratio).
    pub(super) fn contrast(self, other: Self) -> f32 {
        let [one, other] = [self.luminance(), other.luminance()];
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// By WCAG 2.2, relative luminance.
    fn luminance(self) -> f32 {
        let linear = |part: f32| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
        let [red, green, blue] = self.0.map(linear);
        0.2126f32.mul_add(red, 0.7152f32.mul_add(green, 0.0722 * blue))
    }
}

/// Three numbers, and whether each is a percentage.
fn numbers(parts: &str) -> Option<[(f32, bool); 3]> {
    let number = |part: &str| match part.strip_suffix('%') {
        Some(part) => part.parse().ok().map(|number| (number, true)),
        None => part.parse().ok().map(|number| (number, false)),
    };
    let numbers: Option<Vec<_>> = parts.split([',', ' ']).filter(|part| !part.is_empty()).map(number).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_colour_is_read_however_it_is_written() {
        for (text, expected) in [
            ("#ff8000", [255_u8, 128, 0]),
            ("#f80", [255, 136, 0]),
            ("white", [255, 255, 255]),
            ("rebeccapurple", [102, 51, 153]),
            ("rgb(1, 2, 3)", [1, 2, 3]),
            ("rgb(1 2 3)", [1, 2, 3]),
            ("rgb(100%, 0%, 20%)", [255, 0, 51]),
            ("hsl(120, 100%, 50%)", [0, 255, 0]),
            ("hsl(0, 0%, 100%)", [255, 255, 255]),
            ("hsl(210, 50%, 40%)", [51, 102, 153]),
        ] {
            let Colour(parts) = Colour::read(text).unwrap();
            for (part, expected) in parts.into_iter().zip(expected) {
                assert!((part * 255.0 - f32::from(expected)).abs() < 0.6, "{text}: {parts:?}");
            }
        }
        for bad in [
            "",
            "#",
            "#12345",
            "#fff0",
            "transparent",
            "canvas",
            "currentcolor",
            "rgb(1,2)",
            "hsl(1,2,3)",
            "rgb(x,y,z)",
        ] {
            assert_eq!(Colour::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_contrast_is_that_of_the_guidelines() {
        for (one, other, expected) in [
            ("black", "white", 21.0),
            ("white", "white", 1.0),
            ("#767676", "white", 4.54),
            ("#0b5cad", "#ffffff", 6.7),
            ("#949494", "#fff", 3.03),
        ] {
            let [one, other] = [one, other].map(|text| Colour::read(text).unwrap());
            assert!((one.contrast(other) - expected).abs() < 0.05, "{}", one.contrast(other));
        }
    }
}
