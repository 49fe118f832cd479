//! `Reference`: the float64 reference, on the CPU.

use js_sys::{Array, Float32Array, Object, Uint8Array};
use tidegate::gates::{self, Map, Shares};
use tidegate::reference::device::{narrow, widen};
use tidegate::{Mode, ParamLayout, Params, SeqShape, Sequence, reference};
use wasm_bindgen::prelude::*;

use crate::Result;
use crate::arrays::{bytes, f32s, object, set};
use crate::fields::Fields;
use crate::options::{self, CALL, Call, NETWORK, SHAPE};

/// A network in float64 on the CPU: what all results are checked against. It needs no WebGPU.
#[wasm_bindgen]
pub struct Reference {
    network: options::Network,
    params: Params,
}

#[wasm_bindgen]
impl Reference {
    /// With random weights.
    #[wasm_bindgen(constructor)]
    pub fn new(
        #[wasm_bindgen(unchecked_param_type = "Cell")] cell: &str,
        #[wasm_bindgen(unchecked_param_type = "NetworkOptions")] options: JsValue,
    ) -> Result<Self> {
        let network = options::Network::new(cell, &Fields::new(options, &[NETWORK])?)?;
        let params = Params::uniform(&ParamLayout::new(&network.cell, &network.config)?, network.seed);
        Ok(Self { network, params })
    }

    /// As `Network.loadSafetensors`.
    #[wasm_bindgen(js_name = loadSafetensors)]
    pub fn load_safetensors(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "ArrayBuffer | Uint8Array")] file: JsValue,
        prefix: Option<String>,
    ) -> Result<()> {
        let prefix = prefix.as_deref().unwrap_or_default();
        self.params = Params::from_safetensors(self.params.layout(), &bytes(file)?, prefix)?;
        Ok(())
    }

    /// As `Network.toSafetensors`.
    #[wasm_bindgen(js_name = toSafetensors)]
    pub fn to_safetensors(&self, prefix: Option<String>) -> Result<Vec<u8>> {
        Ok(self.params.to_safetensors(prefix.as_deref().unwrap_or_default())?)
    }

    /// Every gate and state of each layer and direction, over all steps of each row: the maps that `tidegate gates` draws.
    #[wasm_bindgen(unchecked_return_type = "GateMaps")]
    pub fn gates(
        &self,
        input: Float32Array,
        #[wasm_bindgen(unchecked_param_type = "SequenceOptions")] options: JsValue,
    ) -> Result<Object> {
        let call = Call::new(input.to_vec(), &Fields::new(options, &[SHAPE, CALL])?)?;
        let trace = self.run(&call, Mode::Training)?;
        let options::Network { cell, config, .. } = &self.network;
        let rows = rows(call.shape, &call.sequence());
        let groups = Array::new();
        for (pass, name) in gates::passes(config) {
            let maps: Array = gates::maps(&**cell, &trace, pass, config.hidden_size, &rows)?.iter().map(map).collect();
            groups.push(&object([("name", name.into()), ("cell", cell.name().into()), ("maps", maps.into())]));
        }
        Ok(object([
            ("formula", cell.spec().formula.as_ref().into()),
            ("output", f32s(&narrow(&trace.output.output))),
            ("groups", groups.into()),
        ]))
    }

    /// As `Network.forward`, at once.
    #[wasm_bindgen(unchecked_return_type = "Output")]
    pub fn forward(
        &self,
        input: Float32Array,
        #[wasm_bindgen(unchecked_param_type = "SequenceOptions")] options: JsValue,
    ) -> Result<Object> {
        let call = Call::new(input.to_vec(), &Fields::new(options, &[SHAPE, CALL])?)?;
        let output = self.run(&call, Mode::Inference)?.output;
        Ok(object([("output", f32s(&narrow(&output.output))), ("finalState", f32s(&narrow(&output.final_state)))]))
    }

    fn run(&self, call: &Call, mode: Mode) -> Result<reference::Trace> {
        let seq = call.sequence();
        let (input, initial_state) = (widen(seq.input), seq.initial_state.map(widen));
        let wide = Sequence::new(seq.shape, &input);
        let wide = Sequence { initial_state: initial_state.as_deref(), lengths: seq.lengths, reset: seq.reset, ..wide };
        let options::Network { cell, config, .. } = &self.network;
        Ok(reference::forward(&**cell, config, &widen(self.params.values()), &wide, mode)?)
    }
}

/// For each row and step its place in `[T, B, ·]` data; nothing past a length.
fn rows(shape: SeqShape, seq: &Sequence<'_>) -> Vec<Option<usize>> {
    let length = |b: usize| seq.lengths.map_or(shape.seq_len, |lengths| lengths[b] as usize);
    let steps = |b| (0..shape.seq_len).map(move |t| (t < length(b)).then_some(t * shape.batch_size + b));
    (0..shape.batch_size).flat_map(steps).collect()
}

fn map(map: &Map) -> Object {
    let made = object([
        ("name", map.name.as_str().into()),
        ("about", map.about.into()),
        ("gate", map.gate.into()),
        ("low", map.low.into()),
        ("high", map.high.into()),
        ("mean", map.mean.into()),
        ("bytes", Uint8Array::from(&map.levels[..]).into()),
    ]);
    if let Some(Shares { shut, open, meaning }) = map.shares {
        for (name, share, meaning) in [("shut", shut, meaning.shut), ("open", open, meaning.open)] {
            set(&made, name, &object([("share", share.into()), ("meaning", meaning.into())]));
        }
    }
    made
}
