//! When Twilio posts a webhook again: the connection overrides in its URL's fragment
//! (<https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides>). Guarantee: pure.

/// Why a try failed, in the words of Twilio's retry policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Client,
    Server,
    Connect,
    Read,
}

impl Fault {
    const ALL: [Self; 4] = [Self::Client, Self::Server, Self::Connect, Self::Read];

    pub(super) fn of_status(http_status: u16) -> Option<Self> {
        match http_status {
            400..500 => Some(Self::Client),
            500..600 => Some(Self::Server),
            _ => None,
        }
    }

    fn of_policy(name: &str) -> &'static [Self] {
        match name {
            "4xx" => &[Self::Client],
            "5xx" => &[Self::Server],
            "ct" => &[Self::Connect],
            "rt" => &[Self::Read],
            "all" => &Self::ALL,
            _ => &[],
        }
    }
}

/// The retries that a webhook URL asks for in its fragment, as in `#rc=3&rp=all`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overrides {
    pub(super) retries: u32,
    faults: Vec<Fault>,
}

impl Overrides {
    pub(super) fn of(url: &str) -> Self {
        let mut overrides = Self { retries: 1, faults: vec![Fault::Connect] };
        let fragment = url.split_once('#').map_or("", |(_, fragment)| fragment);
        for (name, value) in fragment.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "rc" => overrides.retries = value.parse().unwrap_or(1).min(5),
                "rp" => overrides.faults = value.split(',').flat_map(Fault::of_policy).copied().collect(),
                _ => {}
            }
        }
        overrides
    }

    pub(super) fn covers(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fragment_sets_the_retries() {
        let check = |url, retries, faults: &[Fault]| {
            assert_eq!(Overrides::of(url), Overrides { retries, faults: faults.to_vec() }, "{url}");
        };
        check("https://example.test/", 1, &[Fault::Connect]);
        check("https://example.test/#rc=3&rp=all", 3, &Fault::ALL);
        check("https://example.test/#rc=0", 0, &[Fault::Connect]);
        check("https://example.test/#rc=9&rp=5xx,rt&ct=2000", 5, &[Fault::Server, Fault::Read]);
    }
}
