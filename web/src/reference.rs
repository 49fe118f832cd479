//! `Reference`: the float64 reference, on the CPU.

use js_sys::{Float32Array, Object};
use tidegate::{Mode, ParamLayout, Params, Sequence, reference};
use wasm_bindgen::prelude::*;

use crate::Result;
use crate::arrays::{bytes, f32s, object};
use crate::fields::Fields;
use crate::options::{self, CALL, Call, NETWORK, SHAPE};

/// A network in float64 on the CPU: what all results are held against. It needs no WebGPU.
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

    /// As `Network.forward`, at once.
    #[wasm_bindgen(unchecked_return_type = "Output")]
    pub fn forward(
        &self,
        input: Float32Array,
        #[wasm_bindgen(unchecked_param_type = "SequenceOptions")] options: JsValue,
    ) -> Result<Object> {
        let output = self.run(input, options, Mode::Inference)?.output;
        Ok(object([("output", narrow(&output.output)), ("finalState", narrow(&output.final_state))]))
    }

    fn run(&self, input: Float32Array, options: JsValue, mode: Mode) -> Result<reference::Trace> {
        let call = Call::new(input.to_vec(), &Fields::new(options, &[SHAPE, CALL])?)?;
        let seq = call.sequence();
        let (input, initial_state) = (widen(seq.input), seq.initial_state.map(widen));
        let wide = Sequence::new(seq.shape, &input);
        let wide = Sequence { initial_state: initial_state.as_deref(), lengths: seq.lengths, reset: seq.reset, ..wide };
        let options::Network { cell, config, .. } = &self.network;
        Ok(reference::forward(&**cell, config, &widen(self.params.values()), &wide, mode)?)
    }
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

fn narrow(values: &[f64]) -> JsValue {
    f32s(&values.iter().map(|&value| value as f32).collect::<Vec<_>>())
}
