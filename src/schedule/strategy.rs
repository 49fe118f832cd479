//! [`Strategy`], what an app asks for.

/// How the recurrence is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Strategy {
    /// What a [`Tuning`](crate::Tuning) found fastest. Without one, or for shapes that it does not know: persistent for H above 64 and
    /// B up to 64 on a GPU, natively on Vulkan, whose workgroups [`Context::measure_residency`](crate::Context::measure_residency) has
    /// seen run side by side, unless [`with_auto_persistent`](crate::ScheduleOptions::with_auto_persistent) forbids it; else resident up to
    /// H = 128 (GPU: a GRU's to H = 160; CPU adapter: wherever the weights fit into registers, an LSTM's to H = 336), else batched
    /// from B = 64 (CPU adapter: 4) on, else stepwise. A single step: stepwise.
    #[default]
    Auto,
    /// One fused dispatch per step (two for a cell of two phases). Any size, any device. In inference a single step, T = 1, of few
    /// rows has the input's product in it too, and is one dispatch in all for a small network; of many rows it is products over all
    /// of them, then the cell on each.
    Stepwise,
    /// One product a step over all rows of the batch, by the kernels of bulk products, then the cell on each row: two dispatches a
    /// step (four for a cell of two phases). Any size, any device; best for large B and H.
    Batched,
    /// All steps in one dispatch, one workgroup per slice of the batch. Any size, any device; best for small H or many rows.
    Resident,
    /// All steps in one dispatch, the hidden units spread over workgroups that exchange through memory while they run side by
    /// side. Nothing promises that they do: a run that fails is repaired on the GPU by resident, see `status` in
    /// [`BufferSizes`](crate::BufferSizes). Needs more bindings than WebGPU's default, see
    /// [`Context::wanted_limits`](crate::Context::wanted_limits).
    Persistent,
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
