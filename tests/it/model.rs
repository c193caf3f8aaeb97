//! The engine against a model of it: random steps of senders, workers, a provider that knows the truth, staff and watchers,
//! through three replicas. After each step it is checked that what was accepted is there, that a key made one thing, that
//! nothing was sent twice in silence or left without an answer, that claims come back, that no state went back whatever came
//! in which order, that the feed tells all of it, and that nothing begins for whoever is not to be written to.
//!
//! A failure is shrunk to the fewest steps, which are printed; its seed is kept in `tests/seeds` and tried first from then
//! on, for as long as the steps are drawn alike. `HEEDWELL_TEST_MODEL_CASES` says how many walks there are, of 40 steps each.

mod claims;
mod consent;
mod feed;
mod looks;
mod people;
mod plan;
mod reports;
mod steps;
mod truth;
mod work;
mod world;

use std::{env, marker::PhantomData, sync::LazyLock};

use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use tokio::runtime::{Builder, Runtime};

use self::{
    plan::{Plan, Step},
    world::World,
};
use crate::support::{Backend, Home};

/// Steps of one case.
const STEPS: usize = 40;

/// Outlives every case, so that connections that are closed late find it.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

/// Which database a machine runs on.
trait On {
    const BACKEND: Backend;
}

struct Sqlite;
struct Postgres;

impl On for Sqlite {
    const BACKEND: Backend = Backend::Sqlite;
}

impl On for Postgres {
    const BACKEND: Backend = Backend::Postgres;
}

struct Machine<B>(PhantomData<B>);

impl<B: On> StateMachineTest for Machine<B> {
    type SystemUnderTest = World;
    type Reference = Plan;

    fn init_test(_: &Plan) -> World {
        RUNTIME.block_on(World::open(B::BACKEND))
    }

    fn apply(world: World, plan: &Plan, step: Step) -> World {
        RUNTIME.block_on(async {
            let mut world = world.take(plan, &step).await;
            world.keeps_its_promises(plan).await;
            world
        })
    }

    fn teardown(world: World, plan: Plan) {
        RUNTIME.block_on(world.end(&plan));
    }
}

/// Runs as many cases as `HEEDWELL_TEST_MODEL_CASES` says, or so many.
fn run<B: On>(cases: u32, seeds: &'static str) {
    let cases = env::var("HEEDWELL_TEST_MODEL_CASES").map_or(cases, |text| text.parse().unwrap());
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(seeds))),
        max_shrink_iters: u32::MAX - 1,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let _context = RUNTIME.enter();
    let walks = Plan::sequential_strategy(STEPS);
    let outcome = TestRunner::new(config.clone()).run(&walks, |(plan, steps, seen)| {
        Machine::<B>::test_sequential(config.clone(), plan, steps, seen);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn the_engine_keeps_its_promises_whatever_is_done_sqlite() {
    run::<Sqlite>(60, "tests/seeds/model_sqlite.txt");
}

#[test]
fn the_engine_keeps_its_promises_whatever_is_done_postgres() {
    // Where there is none, that has been said aloud.
    if RUNTIME.block_on(Home::new(Backend::Postgres)).is_some() {
        run::<Postgres>(20, "tests/seeds/model_postgres.txt");
    }
}
