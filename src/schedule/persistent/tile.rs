//! What the threads of a workgroup share of a step's products: the part of a layout that is baked into a kernel.

/// Rows and columns of a cooperative matrix.
pub(super) const SIZE: u32 = 16;

/// Whether products of f16 go by cooperative matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Matrices {
    #[default]
    Off,
    /// By the device's.
    On,
    /// By its threads, from the same workgroup memory: for tests where there are no such matrices.
    Emulated,
}

impl Matrices {
    const ALL: [(&str, Self); 3] = [("off", Self::Off), ("on", Self::On), ("emulated", Self::Emulated)];
    pub const NAMES: &str = "off, on, emulated";

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|found| found.1)
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, it)| *it == self).map_or("off", |(name, _)| name)
    }
}

/// A workgroup's share of one product, forward or backward: sums over K for each of its units, of `rows` batch rows at a time.
///
/// Threads are taken `lanes` at a time, a group: lane `thread % lanes` of group `thread / lanes`. A group makes
/// [`units_each`](Tile::units_each) units of part `group / unit_parts` of K; of that part a thread multiplies, for
/// q in 0..`quads`, the four at `q · 4 · lanes + 4 · lane`, so that a group reads weights and operand side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tile {
    /// Threads of the workgroup.
    pub threads: u32,
    /// Threads of a group, a power of two: with shuffles no more than the smallest subgroup of the device.
    pub lanes: u32,
    /// Whether a group sums by shuffles, else by workgroup memory.
    pub shuffles: bool,
    /// Parts of K, each a group's.
    pub k_parts: u32,
    /// Units of the workgroup.
    pub units: u32,
    /// Batch rows at a time, a power of two.
    pub rows: u32,
    /// Blocks of 4 · lanes of its part of K.
    pub quads: u32,
    /// Whether weights lie in an array that loops reach, as a CPU's do: else each is a value of its own, and stays in a register.
    pub rolled: bool,
    /// Whether subgroups run one after another up to a barrier, see `DeviceProfile::in_turn`.
    pub in_turn: bool,
    /// If not off, a group is a subgroup, `quads` counts matrices along its part of K, and it makes some of the matrices of gates and
    /// units: see `matrices`.
    pub matrices: Matrices,
}

impl Tile {
    pub fn groups(&self) -> u32 {
        self.threads / self.lanes
    }

    /// Groups that share the units out among them.
    pub fn unit_parts(&self) -> u32 {
        self.groups() / self.k_parts.max(1)
    }

    /// Units of a group.
    pub fn units_each(&self) -> u32 {
        self.units / self.unit_parts().max(1)
    }

    /// Length of a group's part of K.
    pub fn k_each(&self) -> u32 {
        if self.matrices == Matrices::Off { 4 * self.lanes * self.quads } else { SIZE * self.quads }
    }

    /// Length of K, padded: what is staged for each row.
    pub fn k(&self) -> u32 {
        self.k_each() * self.k_parts
    }

    /// Whether sums meet in workgroup memory, which takes a second barrier.
    pub fn has_parts(&self) -> bool {
        self.k_parts > 1 || !self.shuffles || self.matrices != Matrices::Off
    }

    /// Sums that meet there for one result: one of each part of K, or of each thread along K.
    pub fn parts(&self) -> u32 {
        if self.shuffles { self.k_parts } else { self.k_parts * self.lanes }
    }

    /// Staged operands: two where a slow group may still read one while others stage the next.
    pub fn stages(&self) -> u32 {
        if self.has_parts() { 1 } else { 2 }
    }

    /// What does not hold together, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        let Self { threads, lanes, k_parts, units, rows, quads, .. } = *self;
        if self.matrices != Matrices::Off {
            return self.fault_of_matrices();
        }
        let faults = [
            (!lanes.is_power_of_two() || !rows.is_power_of_two(), "lanes and rows are powers of two"),
            (quads == 0 || units == 0 || k_parts == 0, "nothing is empty"),
            (!threads.is_multiple_of(lanes) || !self.groups().is_multiple_of(k_parts.max(1)), "groups share K evenly"),
            (!units.is_multiple_of(self.unit_parts().max(1)), "groups share units evenly"),
            (!self.units_each().is_power_of_two(), "units of a group are a power of two, as sums are halved"),
        ];
        faults.into_iter().find(|fault| fault.0).map(|fault| fault.1)
    }

    fn fault_of_matrices(&self) -> Option<&'static str> {
        let Self { threads, lanes, k_parts, units, rows, quads, .. } = *self;
        let faults = [
            (lanes != 32 && self.matrices == Matrices::On, "cooperative matrices are for subgroups of 32"),
            (!rows.is_power_of_two() || rows > SIZE, "cooperative matrices take 16 rows at a time, or a power of two of fewer"),
            (!k_parts.is_multiple_of((SIZE / rows.clamp(1, SIZE)).max(1)), "fewer than 16 rows want as many more parts of K"),
            (quads == 0 || units == 0 || k_parts == 0, "nothing is empty"),
            (!units.is_multiple_of(2), "two units go to a word of the exchange"),
            (!threads.is_multiple_of(lanes) || !self.groups().is_multiple_of(k_parts.max(1)), "subgroups share K evenly"),
        ];
        faults.into_iter().find(|fault| fault.0).map(|fault| fault.1)
    }
}
