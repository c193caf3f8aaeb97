//! How many connections a port has at once. When every place is taken, whoever has most of them gives one up that is at rest, so
//! that an address that takes all it can get takes it from itself. No number for one address is wanted for that: behind a load
//! balancer all come from a few, and any number that is safe there would hold nobody up elsewhere.
//!
//! Guarantee: no connection that is at work is closed for another, and none for an address that has more.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pace::Pace;

/// Descriptors that are left to everything else: 18 connections to the database, 256 calls to providers and 64 relays that wait, at
/// most, and some files.
const ELSEWHERE: u64 = 512;
/// Places that there are however few descriptors are allowed.
const FEWEST: usize = 64;
/// How often it is told at most that places are short: whoever takes them all would fill the log as well.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The places of one port.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    /// The port's number, for the log.
    port: u16,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// By who has them, and by number: at the limit they are looked through for each connection that comes.
    seats: HashMap<IpAddr, HashMap<u64, Held>>,
    count: usize,
    /// What has not been told yet.
    shortage: Shortage,
    told: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Shortage {
    /// Connections that were closed for others.
    closed: u64,
    /// Connections that found no place.
    refused: u64,
}

#[derive(Debug)]
struct Held {
    pace: Arc<Pace>,
    end: CancellationToken,
}

/// A connection's place, which is free again once this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    peer: IpAddr,
    number: u64,
    /// What the connection does.
    pub(super) pace: Arc<Pace>,
    /// Somebody else has its place.
    pub(super) end: CancellationToken,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().free(self.peer, self.number);
    }
}

impl Seats {
    /// `most` places, or as many as there are descriptors for, if those are fewer.
    pub(super) fn new(most: usize, port: u16) -> Self {
        Self { most: most.min(room(getrlimit(Resource::Nofile).current)), port, taken: Mutex::default() }
    }

    /// A place for a connection from `peer`; unset: there is none, so it must be closed.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let peer = origin(peer);
        let (mut taken, now) = (self.taken(), Instant::now());
        let is_full = taken.count >= self.most;
        let given_up = if is_full { taken.to_give_up(peer) } else { None };
        if let Some(held) = given_up.and_then(|(peer, number)| taken.free(peer, number)) {
            taken.shortage.closed += 1;
            held.end.cancel();
        } else if is_full {
            taken.shortage.refused += 1;
        }
        let to_tell = if is_full { taken.take_shortage(now) } else { None };
        let seat = (taken.count < self.most).then(|| {
            let (number, pace, end) = (taken.next, Arc::<Pace>::default(), CancellationToken::new());
            taken.next += 1;
            taken.count += 1;
            let held = Held { pace: Arc::clone(&pace), end: end.clone() };
            taken.seats.entry(peer).or_default().insert(number, held);
            Seat { seats: Arc::clone(self), peer, number, pace, end }
        });
        drop(taken);
        if let Some(Shortage { closed, refused }) = to_tell {
            let (port, places) = (self.port, self.most);
            tracing::warn!(port, places, closed, refused, "more connections than there are places");
        }
        seat
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Which connection gives up its place for one from `newcomer`: of the address that has most, the one that has been at rest
    /// for longest. Unset: none is at rest of an address that has as many as the newcomer would have.
    fn to_give_up(&self, newcomer: IpAddr) -> Option<(IpAddr, u64)> {
        let enough = self.seats.get(&newcomer).map_or(0, HashMap::len) + 1;
        let counted = self.seats.iter().map(|(peer, held)| (*peer, held, held.len() + usize::from(*peer == newcomer)));
        counted
            .filter(|(.., count)| *count >= enough)
            .flat_map(|(peer, held, count)| {
                held.iter().filter_map(move |(number, held)| {
                    Some((count, Reverse(held.pace.at_rest_since()?), Reverse(*number), peer))
                })
            })
            .max()
            .map(|(_, _, Reverse(number), peer)| (peer, number))
    }

    /// Frees a place, unless another has it already.
    fn free(&mut self, peer: IpAddr, number: u64) -> Option<Held> {
        let held = self.seats.get_mut(&peer)?;
        let freed = held.remove(&number)?;
        if held.is_empty() {
            self.seats.remove(&peer);
        }
        self.count -= 1;
        Some(freed)
    }

    fn take_shortage(&mut self, now: Instant) -> Option<Shortage> {
        if self.told.is_some_and(|told| now < told + TELL_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.shortage))
    }
}

/// How many places one of two ports may have where a process may have so many descriptors.
fn room(descriptors: Option<u64>) -> usize {
    descriptors.map_or(usize::MAX, |descriptors| {
        usize::try_from(descriptors.saturating_sub(ELSEWHERE) / 2).unwrap_or(usize::MAX).max(FEWEST)
    })
}

/// Who counts as one: an address, and of IPv6 the network that one customer is given at least (RFC 6177).
fn origin(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tokio::time::advance;

    use super::*;

    fn seats(most: usize) -> Arc<Seats> {
        Arc::new(Seats { most, port: 0, taken: Mutex::default() })
    }

    fn from(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Which of them were closed.
    fn closed<const N: usize>(taken: [&Seat; N]) -> [bool; N] {
        taken.map(|seat| seat.end.is_cancelled())
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_has_been_at_rest_for_longest_gives_up_its_place() {
        let seats = seats(3);
        let [first, second, third] = [(); 3].map(|()| seats.take(from(1)).unwrap());
        advance(Duration::from_millis(1)).await;
        // The oldest has just been asked something, and has answered.
        drop(first.pace.work());
        let fourth = seats.take(from(1)).unwrap();
        assert_eq!(closed([&first, &second, &third, &fourth]), [false, true, false, false]);
        // Its end is no news: the place is another's already.
        drop(second);
        let fifth = seats.take(from(1)).unwrap();
        assert_eq!(closed([&first, &third, &fourth, &fifth]), [false, true, false, false]);
        assert_eq!(seats.taken().count, 3);
        drop((first, fourth, fifth));
        assert!(seats.taken().seats.is_empty() && seats.taken().count == 0);
    }

    #[test]
    fn none_at_work_gives_up_its_place() {
        let seats = seats(2);
        let [first, second] = [(); 2].map(|()| seats.take(from(1)).unwrap());
        let (one, two) = (first.pace.work(), [first.pace.work(), second.pace.work()]);
        assert!(seats.take(from(1)).is_none() && seats.take(from(2)).is_none());
        drop(one);
        assert!(seats.take(from(2)).is_none(), "it has another call");
        drop(two);
        assert!(seats.take(from(2)).is_some());
        assert_eq!(closed([&first, &second]), [true, false]);
    }

    #[test]
    fn whoever_takes_all_takes_it_from_themselves() {
        let seats = seats(10);
        // Honest ones, who were there first and have been at rest for longest.
        let honest = [1, 2].map(|last| seats.take(from(last)).unwrap());
        let mut greedy: Vec<_> = (0..100).map(|_| seats.take(from(9)).unwrap()).collect();
        assert_eq!(closed([&honest[0], &honest[1]]), [false, false]);
        assert_eq!(greedy.iter().filter(|seat| !seat.end.is_cancelled()).count(), 8);
        greedy.retain(|seat| !seat.end.is_cancelled());
        // They keep all of theirs at work: then they get no more, and others still lose nothing to them.
        let work: Vec<_> = greedy.iter().map(|seat| seat.pace.work()).collect();
        assert!(seats.take(from(9)).is_none());
        assert_eq!(closed([&honest[0], &honest[1]]), [false, false]);
        // Somebody new gets in at their cost, once one of theirs is at rest.
        drop(work);
        let other = seats.take(from(3)).unwrap();
        assert_eq!(closed([&honest[0], &honest[1], &other]), [false, false, false]);
        assert_eq!(greedy.iter().filter(|seat| seat.end.is_cancelled()).count(), 1);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(origin(ip("2001:db8::1")), origin(ip("2001:db8::ffff:0:0:2")));
        assert_ne!(origin(ip("2001:db8::1")), origin(ip("2001:db8:0:1::1")));
        assert_eq!(origin(ip("::ffff:192.0.2.1")), from(1));
        assert_ne!(origin(from(1)), origin(from(2)));
    }

    #[test]
    fn there_are_no_more_places_than_descriptors_allow() {
        assert_eq!(room(None), usize::MAX);
        assert_eq!([0, 256, 1_024, 65_536].map(|descriptors| room(Some(descriptors))), [64, 64, 256, 32_512]);
    }

    #[test]
    fn a_shortage_is_told_once_in_a_while_and_then_whole() {
        let mut taken = Taken::default();
        let begin = Instant::now();
        let mut told = Vec::new();
        for second in 0..=120 {
            taken.shortage.refused += 1_000;
            told.extend(
                taken.take_shortage(begin + Duration::from_secs(second)).map(|shortage| (second, shortage.refused)),
            );
        }
        assert_eq!(told, [(0, 1_000), (60, 60_000), (120, 60_000)]);
    }
}
