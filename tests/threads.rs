//! Several threads on one device: plans, encoders, sessions and trainers, shared or their own, under every strategy.

mod common;

use std::collections::HashSet;
use std::sync::Mutex;

use common::calls::{Kind, Made, Networks};
use tidegate::{Context, Plan, Rnn, Session, Strategy, train::Trainer};

const THREADS: u64 = 4;
/// Enough that every kind of call under every strategy is among them.
const CALLS: u64 = 120;

/// All threads make all calls, each from another one on, while nothing is compiled yet; then one makes them alone.
#[test]
fn threads_get_the_bits_of_one() {
    fn assert_shared<T: Send + Sync>() {}
    assert_shared::<(Context, Rnn, Plan, Session, Trainer, tidegate::Forward, tidegate::Backward)>();
    let networks = Networks::new(&common::own_context());
    let made: Mutex<Vec<(u64, Made)>> = Mutex::default();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (networks, made) = (&networks, &made);
            scope.spawn(move || {
                for number in (0..CALLS).map(|n| (n + thread * CALLS / THREADS) % CALLS) {
                    let call = networks.call(number);
                    made.lock().unwrap().push((number, call));
                }
            });
        }
    });
    let alone: Vec<Made> = (0..CALLS).map(|number| networks.call(number)).collect();
    let mut compared = HashSet::new();
    let made = made.into_inner().unwrap();
    assert_eq!(made.len() as u64, THREADS * CALLS);
    for (number, made) in made {
        let alone = alone[number as usize];
        if made.digest.is_some() && alone.digest.is_some() {
            assert_eq!(made, alone, "call {number}");
            compared.insert((made.strategy, made.kind));
        }
    }
    for strategy in Strategy::all(networks.context()) {
        let kinds: &[Kind] = match strategy {
            // Only buffers of the app's own tell of repairs.
            Strategy::Persistent => &[Kind::Planned],
            _ => &[Kind::Planned, Kind::Host, Kind::Trainer],
        };
        for &kind in kinds {
            assert!(compared.contains(&(strategy, kind)), "{kind:?} under {strategy:?} was not compared");
        }
    }
    assert!(compared.iter().any(|(_, kind)| *kind == Kind::Session));
}
