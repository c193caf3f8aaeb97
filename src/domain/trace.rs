//! Where a call stands in a trace that began elsewhere, as W3C Trace Context has it (Recommendation of 2021-11-23). Kept with a
//! delivery, so that what is done for it later, by whichever replica, joins the trace of the call that asked for it.

use std::fmt;

/// The id of a trace, the id of a span in it, and the flags. Neither id is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Of the trace.
    pub trace_id: [u8; 16],
    /// Of the span that is the parent of whatever comes next.
    pub span_id: [u8; 8],
    /// Bit 0: it is recorded.
    pub flags: u8,
}

/// Bytes that are stored.
const LENGTH: usize = 25;

impl TraceContext {
    /// Reads the header `traceparent`; unset if it means nothing. Of later versions the first fields are read, as the
    /// Recommendation has it (section 4.3).
    #[must_use]
    pub fn of_header(header: &str) -> Option<Self> {
        let mut fields = header.split('-');
        let [version, trace_id, span_id, flags] = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
        let [version] = hex::<1>(version)?;
        if version == 0xff || (version == 0 && fields.next().is_some()) {
            return None;
        }
        let [flags] = hex::<1>(flags)?;
        let (trace_id, span_id) = (hex(trace_id)?, hex(span_id)?);
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self { trace_id, span_id, flags })
    }

    /// The id of the trace, in digits of base 16.
    #[must_use]
    pub fn trace(self) -> String {
        self.trace_id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As it is stored: both ids and the flags.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        [&self.trace_id[..], &self.span_id, &[self.flags]].concat()
    }

    /// Reads what was stored; unset if it is something else.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let (trace_id, rest) = bytes.split_first_chunk::<16>()?;
        let (span_id, flags) = rest.split_first_chunk::<8>()?;
        Some(Self { trace_id: *trace_id, span_id: *span_id, flags: *flags.first()? })
    }
}

impl fmt::Display for TraceContext {
    /// As the header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// Digits of base 16, none of them large.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; N];
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_header_is_read_written_and_stored() {
        let context = TraceContext::of_header(HEADER).unwrap();
        assert_eq!((context.trace_id[0], context.span_id[7], context.flags), (0x0a, 0x31, 1));
        assert_eq!(context.to_string(), HEADER);
        assert_eq!(TraceContext::of_bytes(&context.to_bytes()), Some(context));
        let later = format!("cc{}-more", &HEADER[2..]);
        assert_eq!(TraceContext::of_header(&later), Some(context), "of a later version the first fields count");
    }

    #[test]
    fn what_means_nothing_is_passed_over() {
        for header in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b71692033311-01",
            "00-0af7651916cd43dd8448eb211c8031é-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::of_header(header), None, "{header}");
        }
        assert_eq!(TraceContext::of_bytes(b"too short"), None);
    }
}
