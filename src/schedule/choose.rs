//! Every decision about what runs, as pure functions of plain data: they ask no device, build nothing and catch no error.

use crate::network::sequence::Mode;
use crate::product::Tiles;
use crate::schedule::Strategy;
use crate::schedule::persistent::Forced;

/// Repaired runs after which strategy persistent is not chosen any more.
pub(crate) const FAILURES: u32 = 2;
/// H up to which resident is taken on a device of which nothing is known.
const SMALL_HIDDEN: usize = 128;
/// H up to which resident is taken even where workgroups run side by side. On an H200 (benches/NOTES.md) an LSTM of one row takes,
/// in µs a step, resident: 1.0 at H 64, 1.1 at 128, 7 at 256; persistent: 0.6 at 128, 0.8 at 256, 1.3 at 1024; a dispatch a step:
/// 3.3 at 256, 5.4 at 1024.
const TINY_HIDDEN: usize = 64;
/// Rows up to which persistent is taken where workgroups run side by side: 2.2 µs a step at H 512, B 16 and 5.3 at B 64, batched 18.
const FEW_ROWS: usize = 64;
/// H·B up to which it is taken in training: at H 1024, B 64 a step took 156 µs and batched 113.
const FEW_STATES_TRAINING: usize = 512 * 64;
/// B from which a product over all rows is taken on CPU adapters, as measured on llvmpipe (benches/NOTES.md), and on GPUs: a guess.
const MANY_ROWS_SOFTWARE: usize = 4;
const MANY_ROWS: usize = 64;
/// Rows from which a single step goes by products, measured on llvmpipe (benches/NOTES.md).
const PRODUCTS_ROWS_SOFTWARE: usize = 64;
/// The same on GPUs, where a dispatch saved is worth more: a guess until one is at hand.
const PRODUCTS_ROWS: usize = 1024;

/// Rows from which a single step goes by products over all of them.
pub(crate) fn products_rows(software: bool) -> usize {
    if software { PRODUCTS_ROWS_SOFTWARE } else { PRODUCTS_ROWS }
}
/// Most weights of a network that one workgroup reads in the time that dispatches of their own would take.
const SMALL_NETWORK: usize = 1 << 18;

/// What the choice depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// What the app forces; `Auto` if nothing.
    pub forced: Strategy,
    /// Products' kernels that the app forces.
    pub forced_tiles: Tiles,
    /// What was measured for this class of shapes.
    pub tuned: Option<Tuned>,
    /// Repaired runs, those that the tuning knows of and those that the context does.
    pub failures: u32,
    pub hidden_size: usize,
    /// Whether h is projected, which no dispatch of a single step knows of.
    pub projects: bool,
    /// Parameters of the whole network.
    pub params: usize,
    pub seq_len: usize,
    pub batch_size: usize,
    pub mode: Mode,
    /// Whether the adapter runs on the CPU.
    pub software: bool,
    /// Workgroups that were seen to run side by side, where strategy persistent may be taken without a tuning: natively on Vulkan.
    pub side_by_side: Option<u32>,
    pub fits: Fits,
}

/// The strategy that a tuning found fastest for a class of shapes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tuned {
    pub strategy: Strategy,
    /// Workgroups that ran side by side and numbers of the layout, if it is persistent.
    pub workgroups: u32,
    pub layout: Forced,
    /// The fastest other than persistent.
    pub fallback: Strategy,
    pub tiles: Tiles,
}

/// What the device has room for, at this shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fits {
    /// The strategies whose grids, bindings, layout and buffers are within the device's limits; without persistent if the app forbids
    /// it. None where the app forces a strategy: its limits are then the error.
    pub able: Strategies,
    /// Whether strategy resident keeps all weights in registers, forward and backward.
    pub weights: bool,
    /// Whether strategy resident has a kernel for GPUs that makes a step faster than a dispatch would.
    pub fast_resident: bool,
    /// Whether the products of a single step of all rows fit a binding.
    pub products_step: bool,
    /// Whether the grid of a fused single step has room for all rows.
    pub fused_step: bool,
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choice {
    /// Never `Auto`.
    pub strategy: Strategy,
    pub step: Step,
    /// What the tuning found for persistent; else what the app or the device says.
    pub workgroups: Option<u32>,
    /// What the tuning found.
    pub layout: Option<Forced>,
    pub tiles: Tiles,
}

/// How a forward pass of one step in inference goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// As a sequence, of whatever length.
    Sequence,
    /// One dispatch for the whole network.
    FusedNetwork,
    /// One dispatch for each layer.
    FusedLayers,
    /// Products over all rows, then the cell on each.
    Products,
}

/// What runs for a shape.
pub(crate) fn choose(f: &Facts) -> Choice {
    Choice {
        strategy: strategy(f),
        step: step(f),
        workgroups: f.tuned.map(|tuned| tuned.workgroups).or(f.side_by_side).filter(|_| f.forced == Strategy::Auto),
        layout: f.tuned.map(|tuned| tuned.layout).filter(|_| f.forced == Strategy::Auto),
        tiles: f.forced_tiles.or(f.tuned.map_or_else(Tiles::default, |tuned| tuned.tiles)),
    }
}

/// What is forced, else what is preferred, else the first that the device has room for: a shape of more rows than one strategy's
/// grid takes is within another's. If none fits, the preferred one's limit is the error.
fn strategy(f: &Facts) -> Strategy {
    if f.forced != Strategy::Auto {
        return f.forced;
    }
    let wanted = preferred(f);
    let mut able = [wanted, Strategy::Batched, Strategy::Resident, Strategy::Stepwise].into_iter();
    able.find(|&strategy| f.fits.able.contains(strategy)).unwrap_or(wanted)
}

/// What the tuning found, else by a table.
fn preferred(f: &Facts) -> Strategy {
    // A single step has nothing to save dispatches on.
    if f.seq_len == 1 {
        return Strategy::Stepwise;
    }
    if let Some(tuned) = f.tuned {
        let drops =
            tuned.strategy == Strategy::Persistent && (f.failures >= FAILURES || !f.fits.able.contains(Strategy::Persistent));
        return if drops { tuned.fallback } else { tuned.strategy };
    }
    let together = f.side_by_side.is_some() && f.fits.able.contains(Strategy::Persistent) && f.failures < FAILURES && !f.software;
    let few = f.batch_size <= FEW_ROWS && (f.mode == Mode::Inference || f.hidden_size * f.batch_size <= FEW_STATES_TRAINING);
    if together && f.hidden_size > TINY_HIDDEN && few {
        return Strategy::Persistent;
    }
    let resident = f.hidden_size <= SMALL_HIDDEN || if f.software { f.fits.weights } else { f.fits.fast_resident };
    let many = f.batch_size >= if f.software { MANY_ROWS_SOFTWARE } else { MANY_ROWS };
    match (resident, many) {
        (true, _) => Strategy::Resident,
        (false, true) => Strategy::Batched,
        (false, false) => Strategy::Stepwise,
    }
}

/// `Auto` and stepwise have dispatches of their own for a single step.
fn step(f: &Facts) -> Step {
    if f.seq_len > 1 || f.mode == Mode::Training || !matches!(f.forced, Strategy::Auto | Strategy::Stepwise) || f.projects {
        return Step::Sequence;
    }
    let many = f.batch_size >= products_rows(f.software);
    match (many && f.fits.products_step, f.fits.fused_step, f.params <= SMALL_NETWORK) {
        (true, ..) => Step::Products,
        (false, false, _) => Step::Sequence,
        (false, true, true) => Step::FusedNetwork,
        (false, true, false) => Step::FusedLayers,
    }
}

impl Step {
    /// Whether the final state may be written where the initial one is. The other workgroups of a large network still read it.
    pub fn works_in_place(self) -> bool {
        self != Self::FusedLayers
    }

    /// What runs on buffers of which this is known: whether the state is updated in place, and whether parts of one buffer would be
    /// both read and written by a single dispatch. A sequence goes through several.
    pub fn on_buffers(self, in_place: bool, shares_a_buffer: bool) -> Self {
        if (in_place && !self.works_in_place()) || shares_a_buffer { Self::Sequence } else { self }
    }
}

/// A set of strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Strategies(u32);

impl Strategies {
    pub const NONE: Self = Self(0);

    pub const fn with(self, strategy: Strategy) -> Self {
        Self(self.0 | (1 << strategy as u32))
    }

    #[cfg(test)]
    pub const fn without(self, strategy: Strategy) -> Self {
        Self(self.0 & !(1 << strategy as u32))
    }

    pub fn contains(self, strategy: Strategy) -> bool {
        self.0 & (1 << strategy as u32) != 0
    }
}

impl FromIterator<Strategy> for Strategies {
    fn from_iter<I: IntoIterator<Item = Strategy>>(strategies: I) -> Self {
        strategies.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::Tile;

    use Strategy::{Auto, Batched, Persistent, Resident, Stepwise};

    const ALL: Strategies = Strategies::NONE.with(Stepwise).with(Batched).with(Resident).with(Persistent);
    /// An LSTM of H 512 on a GPU of which nothing is known, with everything that a device may have room for.
    const FACTS: Facts = Facts {
        forced: Auto,
        forced_tiles: Tiles { nt: None, nn: None, tn: None, cooperative: None },
        tuned: None,
        failures: 0,
        hidden_size: 512,
        projects: false,
        params: 8 * 512 * 513,
        seq_len: 100,
        batch_size: 4,
        mode: Mode::Inference,
        software: false,
        side_by_side: None,
        fits: Fits { able: ALL, weights: true, fast_resident: false, products_step: true, fused_step: true },
    };
    /// What has room for 524,296 rows: 65,537 workgroups of 8 are more than a grid takes, and products spread over two dimensions.
    const MANY_ROWS_FIT: Fits = Fits { able: Strategies::NONE.with(Batched), fused_step: false, ..FACTS.fits };
    const MANY: Facts = Facts { hidden_size: 8, params: 600, batch_size: 524_296, seq_len: 2, fits: MANY_ROWS_FIT, ..FACTS };
    const TUNED: Tuned =
        Tuned { strategy: Persistent, workgroups: 96, layout: Forced::NONE, fallback: Batched, tiles: FACTS.forced_tiles };
    const CPU: Facts = Facts { software: true, ..FACTS };
    const STEP: Facts = Facts { seq_len: 1, ..FACTS };
    const FEW_BINDINGS: Fits = Fits { able: ALL.without(Persistent), ..FACTS.fits };
    const TOGETHER: Facts = Facts { side_by_side: Some(132), ..FACTS };
    const FAST: Fits = Fits { fast_resident: true, ..FACTS.fits };
    const NO_BATCHED: Fits = Fits { able: ALL.without(Batched), ..FACTS.fits };
    const ONLY_STEPWISE: Fits = Fits { able: Strategies::NONE.with(Stepwise), ..FACTS.fits };
    const NOTHING_FITS: Fits = Fits { able: Strategies::NONE, ..FACTS.fits };
    const NO_REGISTERS: Fits = Fits { weights: false, ..FACTS.fits };

    #[test]
    fn the_strategy_of_a_sequence() {
        let tuned = Some(TUNED);
        let tuned_to = |strategy| Some(Tuned { strategy, ..TUNED });
        for (what, facts, expected) in [
            ("H 512, B 4: nothing is known", FACTS, Stepwise),
            ("H 512, B 63", Facts { batch_size: 63, ..FACTS }, Stepwise),
            ("H 512, B 64", Facts { batch_size: 64, ..FACTS }, Batched),
            ("H 128, B 64", Facts { hidden_size: 128, batch_size: 64, ..FACTS }, Resident),
            ("H 129, B 1", Facts { hidden_size: 129, batch_size: 1, ..FACTS }, Stepwise),
            ("CPU, weights fit registers", CPU, Resident),
            ("CPU, they do not, B 4", Facts { fits: NO_REGISTERS, ..CPU }, Batched),
            ("CPU, they do not, B 3", Facts { fits: NO_REGISTERS, batch_size: 3, ..CPU }, Stepwise),
            ("CPU, H 128", Facts { fits: NO_REGISTERS, hidden_size: 128, ..CPU }, Resident),
            ("training", Facts { mode: Mode::Training, ..FACTS }, Stepwise),
            ("H 160 that resident has a fast kernel for", Facts { hidden_size: 160, fits: FAST, ..FACTS }, Resident),
            ("132 workgroups side by side", TOGETHER, Persistent),
            ("those, H 65, B 64", Facts { hidden_size: 65, batch_size: 64, ..TOGETHER }, Persistent),
            ("those, H 64", Facts { hidden_size: 64, ..TOGETHER }, Resident),
            ("those, training, H 512, B 64", Facts { mode: Mode::Training, batch_size: 64, ..TOGETHER }, Persistent),
            ("those, H 1024, B 64", Facts { hidden_size: 1024, batch_size: 64, ..TOGETHER }, Persistent),
            ("those, training", Facts { mode: Mode::Training, hidden_size: 1024, batch_size: 64, ..TOGETHER }, Batched),
            ("those, B 65", Facts { batch_size: 65, ..TOGETHER }, Batched),
            ("those, failed twice", Facts { failures: 2, ..TOGETHER }, Stepwise),
            ("those, 8 bindings", Facts { fits: FEW_BINDINGS, ..TOGETHER }, Stepwise),
            ("those, tuned to another", Facts { tuned: tuned_to(Batched), ..TOGETHER }, Batched),
            ("those, T 1", Facts { seq_len: 1, ..TOGETHER }, Stepwise),
            ("CPU with those", Facts { software: true, ..TOGETHER }, Resident),
            ("tuned", Facts { tuned, ..FACTS }, Persistent),
            ("tuned to another", Facts { tuned: tuned_to(Resident), ..FACTS }, Resident),
            ("tuned to another, with failures", Facts { tuned: tuned_to(Resident), failures: 9, ..FACTS }, Resident),
            ("tuned, failed once", Facts { tuned, failures: 1, ..FACTS }, Persistent),
            ("tuned, failed twice", Facts { tuned, failures: 2, ..FACTS }, Batched),
            ("tuned, 8 bindings", Facts { tuned, fits: FEW_BINDINGS, ..FACTS }, Batched),
            ("forced beats tuned", Facts { forced: Stepwise, tuned, ..FACTS }, Stepwise),
            (
                "forced beats limits, which then are its error",
                Facts { forced: Persistent, fits: FEW_BINDINGS, ..FACTS },
                Persistent,
            ),
            ("forced beats failures", Facts { forced: Persistent, tuned, failures: 9, ..FACTS }, Persistent),
            ("524,296 rows, two steps, H 8", MANY, Batched),
            ("those on a CPU", Facts { software: true, ..MANY }, Batched),
            ("those, tuned to what has no room", Facts { tuned: tuned_to(Resident), ..MANY }, Batched),
            ("those, forced to what has no room, whose limit is the error", Facts { forced: Resident, ..MANY }, Resident),
            ("those, T 1", Facts { seq_len: 1, ..MANY }, Batched),
            ("no room for batched's products", Facts { batch_size: 64, fits: NO_BATCHED, ..FACTS }, Resident),
            ("nor for resident", Facts { batch_size: 64, fits: ONLY_STEPWISE, ..FACTS }, Stepwise),
            ("room for nothing: the error is that of what was wanted", Facts { fits: NOTHING_FITS, ..FACTS }, Stepwise),
            ("those, B 64", Facts { batch_size: 64, fits: NOTHING_FITS, ..FACTS }, Batched),
            ("T 1, tuned", Facts { tuned, ..STEP }, Stepwise),
            ("T 1, H 64", Facts { hidden_size: 64, ..STEP }, Stepwise),
            ("T 1, forced", Facts { forced: Resident, ..STEP }, Resident),
        ] {
            assert_eq!(choose(&facts).strategy, expected, "{what}");
        }
    }

    #[test]
    fn the_way_of_a_single_step() {
        let small = SMALL_NETWORK;
        let narrow = Fits { products_step: false, ..FACTS.fits };
        for (what, facts, expected) in [
            ("H 512, B 4, T 1", STEP, Step::FusedLayers),
            ("of a small network", Facts { params: small, ..STEP }, Step::FusedNetwork),
            ("of one that is not quite", Facts { params: small + 1, ..STEP }, Step::FusedLayers),
            ("B 1023", Facts { batch_size: 1023, ..STEP }, Step::FusedLayers),
            ("B 1024", Facts { batch_size: 1024, ..STEP }, Step::Products),
            ("B 1024 of a small network", Facts { batch_size: 1024, params: small, ..STEP }, Step::Products),
            ("B 1024, more than a binding holds", Facts { batch_size: 1024, fits: narrow, ..STEP }, Step::FusedLayers),
            ("CPU, B 63", Facts { batch_size: 63, seq_len: 1, ..CPU }, Step::FusedLayers),
            ("CPU, B 64", Facts { batch_size: 64, seq_len: 1, ..CPU }, Step::Products),
            ("524,296 rows", Facts { seq_len: 1, ..MANY }, Step::Products),
            (
                "524,296 rows that fit no binding",
                Facts { seq_len: 1, fits: Fits { products_step: false, ..MANY_ROWS_FIT }, ..MANY },
                Step::Sequence,
            ),
            ("T 2", Facts { seq_len: 2, params: small, ..FACTS }, Step::Sequence),
            ("training", Facts { mode: Mode::Training, ..STEP }, Step::Sequence),
            ("projected", Facts { projects: true, ..STEP }, Step::Sequence),
            ("forced to be stepwise", Facts { forced: Stepwise, ..STEP }, Step::FusedLayers),
            ("forced to be another", Facts { forced: Resident, ..STEP }, Step::Sequence),
            ("tuned", Facts { tuned: Some(TUNED), ..STEP }, Step::FusedLayers),
        ] {
            assert_eq!(choose(&facts).step, expected, "{what}");
        }
    }

    #[test]
    fn a_step_on_the_buffers_of_a_call() {
        use Step::{FusedLayers, FusedNetwork, Products, Sequence};
        for (step, in_place, shares, expected) in [
            (FusedLayers, false, false, FusedLayers),
            (FusedLayers, true, false, Sequence),
            (FusedLayers, false, true, Sequence),
            (FusedNetwork, true, false, FusedNetwork),
            (FusedNetwork, true, true, Sequence),
            (Products, true, false, Products),
            (Products, false, true, Sequence),
            (Sequence, true, true, Sequence),
        ] {
            assert_eq!(step.on_buffers(in_place, shares), expected, "{step:?}, in place: {in_place}, shares: {shares}");
        }
    }

    #[test]
    fn workgroups_and_tiles() {
        let tile = |nt| Tiles { nt: Some(nt), ..FACTS.forced_tiles };
        let tuned = Some(Tuned { tiles: tile(Tile::Of64x64), ..TUNED });
        let choice = choose(&Facts { tuned, ..FACTS });
        assert_eq!((choice.workgroups, choice.tiles), (Some(96), tile(Tile::Of64x64)));
        let choice = choose(&Facts { tuned, forced: Persistent, ..FACTS });
        assert_eq!((choice.workgroups, choice.tiles), (None, tile(Tile::Of64x64)));
        assert_eq!(choose(&Facts { tuned, forced_tiles: tile(Tile::Of32x32), ..FACTS }).tiles, tile(Tile::Of32x32));
        assert_eq!(choose(&FACTS).workgroups, None);
        assert_eq!(choose(&TOGETHER).workgroups, Some(132));
        assert_eq!(choose(&Facts { tuned, ..TOGETHER }).workgroups, Some(96));
        let layout: Forced = "units=8".parse().unwrap();
        let tuned = Some(Tuned { layout, ..TUNED });
        assert_eq!(choose(&Facts { tuned, ..TOGETHER }).layout, Some(layout));
        assert_eq!(choose(&Facts { tuned, forced: Persistent, ..TOGETHER }).layout, None);
        assert_eq!(choose(&Facts { forced: Persistent, ..TOGETHER }).workgroups, None);
    }
}
