//! The three tasks that need a memory, and their data: all of it follows from a seed.

use clap::ValueEnum;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidegate::train::{Batch, IGNORE, Inputs, Objective, Readout, Targets};

/// What has to be remembered over a lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Task {
    /// The sum of the two numbers that were marked (Hochreiter and Schmidhuber 1997, numbers in 0..1 as in Le et al. 2015).
    Adding,
    /// A few symbols, repeated after a long blank (Arjovsky et al. 2016, with fewer symbols).
    Copy,
    /// Which of four orders two rare symbols among noise had (Hochreiter and Schmidhuber 1997).
    Order,
}

/// In the order of the tables.
pub const ALL: [Task; 3] = [Task::Adding, Task::Copy, Task::Order];

/// Symbols to copy, and of how many kinds.
pub const COPIED: usize = 3;
pub const ALPHABET: usize = 4;
/// Kinds of symbols that mean nothing in [`Task::Order`].
const NOISE: usize = 4;

/// A task at a lag: at least that many steps lie between the first thing to remember and the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    pub task: Task,
    pub lag: usize,
}

/// Which data: what is trained on, or what is never trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Train,
    Test,
}

/// Inputs `[T, B, I]` and targets of some rows; labels of copy are `[T, B]` with [`IGNORE`] where nothing is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    pub inputs: Vec<f32>,
    pub targets: Answers,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answers {
    Labels(Vec<u32>),
    Values(Vec<f32>),
}

impl Rows {
    pub fn batch(&self) -> Batch<'_> {
        let targets = match &self.targets {
            Answers::Labels(labels) => Targets::Labels(labels),
            Answers::Values(values) => Targets::Values(values),
        };
        Batch::new(Inputs::Features(&self.inputs), targets)
    }
}

impl Task {
    pub fn name(self) -> &'static str {
        match self {
            Self::Adding => "adding",
            Self::Copy => "copy",
            Self::Order => "order",
        }
    }

    pub fn input_size(self) -> usize {
        match self {
            Self::Adding => 2,
            // Symbols and the sign to begin; a blank is zeros.
            Self::Copy => ALPHABET + 1,
            Self::Order => NOISE + 2,
        }
    }

    pub fn outputs(self) -> usize {
        match self {
            Self::Adding => 1,
            Self::Copy => ALPHABET,
            Self::Order => 4,
        }
    }

    pub fn objective(self) -> Objective {
        if self == Self::Adding { Objective::MeanSquaredError } else { Objective::CrossEntropy }
    }

    pub fn readout(self) -> Readout {
        if self == Self::Copy { Readout::EveryStep } else { Readout::Final }
    }

    /// What a score is.
    pub fn measure(self) -> &'static str {
        if self == Self::Adding { "squared error" } else { "right answers" }
    }

    /// Whether a score of held-out rows counts as solved: a squared error, or a part of right answers.
    pub fn is_solved(self, score: f64) -> bool {
        if self == Self::Adding { score < 0.01 } else { score > 0.99 }
    }
}

impl Problem {
    /// Steps within which the first thing to remember comes: all symbols of copy, the first mark or symbol of the others.
    pub fn lead(&self) -> usize {
        if self.task == Task::Copy { COPIED } else { (self.lag / 5).max(2) }
    }

    pub fn seq_len(&self) -> usize {
        self.lead() + self.lag + if self.task == Task::Copy { COPIED } else { 0 }
    }

    /// The best mean squared error that an answer linear in the inputs can have on adding. A weight for each step's number is all
    /// that it has, and each place of a mark is as likely as the others of its range.
    pub fn linear_bound(&self) -> f64 {
        let second = self.lag / 2;
        (2.0 - 1.0 / self.lead() as f64 - 1.0 / second as f64) / 12.0
    }

    /// So many rows. Seeds and parts have streams of their own.
    pub fn rows(&self, part: Part, seed: u64, count: usize) -> Rows {
        let mut generator = Generator::new(*self, part, seed);
        generator.rows(count)
    }
}

/// Row after row of a problem.
pub struct Generator {
    problem: Problem,
    rng: ChaCha8Rng,
}

impl Generator {
    pub fn new(problem: Problem, part: Part, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(if part == Part::Train { 1 } else { 2 });
        Self { problem, rng }
    }

    pub fn rows(&mut self, count: usize) -> Rows {
        let Problem { task, .. } = self.problem;
        let mut inputs =
            Inputs3 { values: vec![0.0; self.problem.seq_len() * count * task.input_size()], count, size: task.input_size() };
        let targets = match task {
            Task::Adding => Answers::Values((0..count).map(|row| self.adding(&mut inputs, row)).collect()),
            Task::Order => Answers::Labels((0..count).map(|row| self.order(&mut inputs, row)).collect()),
            Task::Copy => {
                let mut labels = vec![IGNORE; self.problem.seq_len() * count];
                (0..count).for_each(|row| self.copy(&mut inputs, &mut labels, row));
                Answers::Labels(labels)
            }
        };
        Rows { inputs: inputs.values, targets }
    }

    /// Two steps: one within the lead, one in the half of the lag behind it.
    fn places(&mut self) -> [usize; 2] {
        let (lead, second) = (self.problem.lead(), self.problem.lag / 2);
        [self.rng.random_range(0..lead), lead + self.rng.random_range(0..second)]
    }

    fn adding(&mut self, inputs: &mut Inputs3, row: usize) -> f32 {
        for t in 0..self.problem.seq_len() {
            *inputs.at(t, row, 0) = self.rng.random_range(0.0..1.0);
        }
        let places = self.places();
        places.iter().for_each(|&t| *inputs.at(t, row, 1) = 1.0);
        places.iter().map(|&t| *inputs.at(t, row, 0)).sum()
    }

    fn order(&mut self, inputs: &mut Inputs3, row: usize) -> u32 {
        let places = self.places();
        let mut label = 0;
        for t in 0..self.problem.seq_len() {
            let mut symbol = self.rng.random_range(0..NOISE);
            if places.contains(&t) {
                let which = self.rng.random_range(0..2u32);
                label = 2 * label + which;
                symbol = NOISE + which as usize;
            }
            *inputs.at(t, row, symbol) = 1.0;
        }
        label
    }

    fn copy(&mut self, inputs: &mut Inputs3, labels: &mut [u32], row: usize) {
        let first = self.problem.lead() + self.problem.lag;
        // The sign comes with the step that has to answer first.
        *inputs.at(first, row, ALPHABET) = 1.0;
        for k in 0..COPIED {
            let symbol = self.rng.random_range(0..ALPHABET);
            *inputs.at(k, row, symbol) = 1.0;
            labels[(first + k) * inputs.count + row] = symbol as u32;
        }
    }
}

/// `[T, B, I]` that is being filled.
struct Inputs3 {
    values: Vec<f32>,
    count: usize,
    size: usize,
}

impl Inputs3 {
    fn at(&mut self, t: usize, row: usize, feature: usize) -> &mut f32 {
        &mut self.values[(t * self.count + row) * self.size + feature]
    }
}
