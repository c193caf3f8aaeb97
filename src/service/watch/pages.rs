//! Pages of the feeds that were read lately. Watches of one practice that stand at the same position read it once, and a
//! thousand that are woken at once wait for one answer.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::OnceCell;

use crate::{
    domain::{PracticeId, Scope},
    store::{FeedPage, Store, StoreError},
};

/// Most changes in a page.
const PAGE: i64 = 256;
/// Pages that are kept, of all practices together: some 10 MB at most.
const KEPT: usize = 64;

type Key = (PracticeId, i64);
type Cell = Arc<OnceCell<Arc<FeedPage>>>;

/// The pages.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    store: Store,
    recent: Arc<Mutex<Recent>>,
    reads: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Recent {
    cells: HashMap<Key, Cell>,
    /// The oldest first.
    order: VecDeque<Key>,
}

/// Why there is no page.
enum Nothing {
    /// There is nothing after the position, which must not be kept: there may be in a moment.
    Yet,
    Failed(StoreError),
}

impl Pages {
    pub(super) fn new(store: Store) -> Self {
        Self { store, recent: Arc::default(), reads: Arc::default() }
    }

    /// What comes next after `position`; unset when there is nothing yet.
    pub(super) async fn after(&self, scope: &Scope, position: i64) -> Result<Option<Arc<FeedPage>>, StoreError> {
        let cell = self.cell((scope.practice().clone(), position));
        match cell.get_or_try_init(|| self.read(scope, position)).await {
            Ok(page) => Ok(Some(Arc::clone(page))),
            Err(Nothing::Yet) => Ok(None),
            Err(Nothing::Failed(error)) => Err(error),
        }
    }

    /// How often the database was asked for a page.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    async fn read(&self, scope: &Scope, position: i64) -> Result<Arc<FeedPage>, Nothing> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        // Pages end at the same places wherever one begins, so that those who catch up meet there and go on together.
        let limit = (PAGE - position.rem_euclid(PAGE)).unsigned_abs();
        let page = self.store.feed_read_after(scope, position, limit).await.map_err(Nothing::Failed)?;
        if page.position == position { Err(Nothing::Yet) } else { Ok(Arc::new(page)) }
    }

    fn cell(&self, key: Key) -> Cell {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = recent.cells.get(&key) {
            return Arc::clone(cell);
        }
        if recent.order.len() == KEPT
            && let Some(oldest) = recent.order.pop_front()
        {
            recent.cells.remove(&oldest);
        }
        let cell = Cell::default();
        recent.order.push_back(key.clone());
        recent.cells.insert(key, Arc::clone(&cell));
        cell
    }
}
