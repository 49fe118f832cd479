//! What networks and calls are told, as the library takes it.

use std::sync::Arc;

use tidegate::cell::by_name;
use tidegate::{Cell, Context, Direction, Dtype, Rnn, RnnConfig, SeqShape, Sequence, Strategy, Tuning};

use wasm_bindgen::JsError;

use crate::Result;
use crate::fields::Fields;

/// Fields of `NetworkOptions`.
pub const NETWORK: &[&str] = &[
    "inputSize",
    "hiddenSize",
    "numLayers",
    "direction",
    "bias",
    "batchFirst",
    "dropout",
    "dtype",
    "strategy",
    "tuning",
    "seed",
];
/// Fields of `Shape`.
pub const SHAPE: &[&str] = &["seqLen", "batchSize"];
/// What a call may have beside its input and shape.
pub const CALL: &[&str] = &["initialState", "lengths", "reset"];

/// A network as it is asked for.
#[derive(Debug)]
pub struct Network {
    pub cell: Arc<dyn Cell>,
    pub config: RnnConfig,
    pub dtype: Dtype,
    pub strategy: Strategy,
    pub tuning: Tuning,
    pub seed: u64,
}

impl Network {
    pub fn new(cell: &str, fields: &Fields) -> Result<Self> {
        let mut config = RnnConfig::new(fields.needed_size("inputSize")?, fields.needed_size("hiddenSize")?);
        config.num_layers = fields.size("numLayers")?.unwrap_or(config.num_layers);
        config.bias = fields.flag("bias")?.unwrap_or(config.bias);
        config.batch_first = fields.flag("batchFirst")?.unwrap_or(config.batch_first);
        config.dropout = fields.number("dropout")?.map_or(config.dropout, |dropout| dropout as f32);
        config.direction = fields.choice(
            "direction",
            &[("forward", Direction::Forward), ("reverse", Direction::Reverse), ("bidirectional", Direction::Bidirectional)],
        )?;
        Ok(Self {
            cell: by_name(cell)?,
            config,
            dtype: dtype(fields)?,
            strategy: strategy(fields)?,
            tuning: tuning(fields)?,
            seed: fields.seed("seed")?,
        })
    }

    pub fn on(&self, ctx: &Context) -> Result<Rnn> {
        let rnn = Rnn::new(ctx, self.cell.clone(), self.config.clone())?;
        Ok(rnn.with_strategy(self.strategy).with_dtype(self.dtype)?.with_tuning(&self.tuning)?)
    }
}

pub fn dtype(fields: &Fields) -> Result<Dtype> {
    fields.choice("dtype", &[("f32", Dtype::F32), ("f16", Dtype::F16)])
}

/// What `tune` told; empty where nothing is given.
pub fn tuning(fields: &Fields) -> Result<Tuning> {
    let Some(text) = fields.text("tuning")? else { return Ok(Tuning::default()) };
    serde_json::from_str(&text).map_err(|error| JsError::new(&format!("option `tuning` is not what `tune` gave: {error}")))
}

/// Those that browsers can run.
pub fn strategy(fields: &Fields) -> Result<Strategy> {
    let strategies = [Strategy::Auto, Strategy::Stepwise, Strategy::Batched, Strategy::Resident];
    fields.choice("strategy", &strategies.map(|strategy| (strategy.name(), strategy)))
}

pub fn shape(fields: &Fields) -> Result<SeqShape> {
    Ok(SeqShape { seq_len: fields.needed_size("seqLen")?, batch_size: fields.needed_size("batchSize")? })
}

/// One call's data.
#[derive(Debug)]
pub struct Call {
    pub shape: SeqShape,
    input: Vec<f32>,
    initial_state: Option<Vec<f32>>,
    lengths: Option<Vec<u32>>,
    reset: Option<Vec<u32>>,
}

impl Call {
    pub fn new(input: Vec<f32>, fields: &Fields) -> Result<Self> {
        Ok(Self {
            shape: shape(fields)?,
            input,
            initial_state: fields.f32s("initialState")?,
            lengths: fields.u32s("lengths")?,
            reset: fields.u32s("reset")?,
        })
    }

    pub fn sequence(&self) -> Sequence<'_> {
        let mut seq = Sequence::new(self.shape, &self.input);
        seq.initial_state = self.initial_state.as_deref();
        (seq.lengths, seq.reset) = (self.lengths.as_deref(), self.reset.as_deref());
        seq
    }
}
