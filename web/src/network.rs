//! `Network`: a recurrent network and its parameters on a device.

use std::cell::{Ref, RefCell};
use std::rc::Rc;

use js_sys::{Float32Array, Object, Promise};
use tidegate::{Context, DeviceBuffer, Output, OutputGradients, Params, Rnn, SeqShape};
use wasm_bindgen::prelude::*;

use crate::Result;
use crate::arrays::{bytes, f32s, object};
use crate::fields::Fields;
use crate::options::{self, CALL, Call, SHAPE};
use crate::promise::promise;
use crate::session::Session;
use crate::tensors::record;
use crate::tools::{Asked, run};

/// A recurrent network and its parameters.
#[wasm_bindgen]
pub struct Network {
    shared: Rc<Shared>,
}

/// What the calls of a network share.
pub struct Shared {
    /// A tuning puts another in its place.
    rnn: RefCell<Rnn>,
    params: RefCell<Params>,
    buffer: DeviceBuffer,
}

impl Shared {
    /// As it is when a call begins.
    pub fn rnn(&self) -> Rnn {
        self.rnn.borrow().clone()
    }

    /// The same network with another tuning.
    pub fn replace(&self, rnn: Rnn) {
        self.rnn.replace(rnn);
    }
}

impl Network {
    pub fn random(ctx: &Context, options: &options::Network) -> Result<Self> {
        let rnn = options.on(ctx)?;
        let params = Params::uniform(rnn.param_layout(), options.seed);
        Self::new(rnn, params)
    }

    pub fn new(rnn: Rnn, params: Params) -> Result<Self> {
        let buffer = rnn.upload(&params)?;
        Ok(Self { shared: Rc::new(Shared { rnn: RefCell::new(rnn), params: RefCell::new(params), buffer }) })
    }

    fn rnn(&self) -> Ref<'_, Rnn> {
        self.shared.rnn.borrow()
    }

    fn params(&self) -> Ref<'_, Params> {
        self.shared.params.borrow()
    }
}

#[wasm_bindgen]
impl Network {
    #[wasm_bindgen(getter, unchecked_return_type = "Cell")]
    pub fn cell(&self) -> String {
        self.rnn().cell().name().into()
    }

    #[wasm_bindgen(getter, js_name = inputSize)]
    pub fn input_size(&self) -> usize {
        self.rnn().config().input_size
    }

    #[wasm_bindgen(getter, js_name = hiddenSize)]
    pub fn hidden_size(&self) -> usize {
        self.rnn().config().hidden_size
    }

    #[wasm_bindgen(getter, js_name = paramCount)]
    pub fn param_count(&self) -> usize {
        self.rnn().param_layout().len()
    }

    /// A copy of all parameters, with PyTorch's names and shapes.
    #[wasm_bindgen(unchecked_return_type = "Record<string, Tensor>")]
    pub fn parameters(&self) -> Object {
        record(self.rnn().param_layout(), self.params().values())
    }

    /// Takes parameters of this network's names and shapes out of a file; with a prefix (`"encoder.lstm."`) the file may hold more.
    /// Sessions of this network go on with the new ones.
    #[wasm_bindgen(js_name = loadSafetensors)]
    pub fn load_safetensors(
        &self,
        #[wasm_bindgen(unchecked_param_type = "ArrayBuffer | Uint8Array")] file: JsValue,
        prefix: Option<String>,
    ) -> Result<()> {
        let (Shared { params, buffer, .. }, rnn) = (&*self.shared, self.rnn());
        let read = Params::from_safetensors(rnn.param_layout(), &bytes(file)?, prefix.as_deref().unwrap_or_default())?;
        rnn.write_params(buffer, &read)?;
        params.replace(read);
        Ok(())
    }

    /// The parameters as a file that PyTorch's `load_state_dict` takes.
    #[wasm_bindgen(js_name = toSafetensors)]
    pub fn to_safetensors(&self, prefix: Option<String>) -> Result<Vec<u8>> {
        Ok(self.params().to_safetensors(prefix.as_deref().unwrap_or_default())?)
    }

    /// Sends `[T, B, I]` through; inference, so without dropout.
    #[wasm_bindgen(unchecked_return_type = "Promise<Output>")]
    pub fn forward(
        &self,
        input: Float32Array,
        #[wasm_bindgen(unchecked_param_type = "SequenceOptions")] options: JsValue,
    ) -> Promise {
        let shared = self.shared.clone();
        promise(async move {
            let call = Call::new(input.to_vec(), &Fields::new(options, &[SHAPE, CALL])?)?;
            let output = shared.rnn().forward(&shared.buffer, &call.sequence()).await?;
            Ok(object(fields_of(&output)))
        })
    }

    /// Sends `[T, B, I]` through, and the gradient `[T, B, D·H]` of what came out back through time.
    #[wasm_bindgen(unchecked_return_type = "Promise<Gradients>")]
    pub fn backward(
        &self,
        input: Float32Array,
        #[wasm_bindgen(js_name = dOutput)] d_output: Float32Array,
        #[wasm_bindgen(unchecked_param_type = "SequenceOptions & { dFinalState?: Float32Array }")] options: JsValue,
    ) -> Promise {
        let shared = self.shared.clone();
        promise(async move {
            let fields = Fields::new(options, &[SHAPE, CALL, &["dFinalState"]])?;
            let call = Call::new(input.to_vec(), &fields)?;
            let (d_output, d_final_state) = (d_output.to_vec(), fields.f32s("dFinalState")?);
            let d = OutputGradients { d_output: &d_output, d_final_state: d_final_state.as_deref() };
            let rnn = shared.rnn();
            let (output, gradients) = rnn.backward(&shared.buffer, &call.sequence(), &d).await?;
            let [output, final_state] = fields_of(&output);
            Ok(object([
                output,
                final_state,
                ("dInput", f32s(&gradients.d_input)),
                ("dInitialState", f32s(&gradients.d_initial_state)),
                ("dParams", record(rnn.param_layout(), &gradients.d_params).into()),
            ]))
        })
    }

    /// Finds the fastest strategy for shapes like this one on this device by running all: the same mode, B up to the next power of two,
    /// any T. Takes some seconds. With strategy `auto` this network goes by it from then on; the text it resolves with is for option
    /// `tuning` of networks of this cell and size on this device, after a reload too.
    #[wasm_bindgen(unchecked_return_type = "Promise<string>")]
    pub fn tune(&self, #[wasm_bindgen(unchecked_param_type = "Shape & { training?: boolean }")] options: JsValue) -> Promise {
        promise(run(Asked::Tune { network: self.shared.clone(), options }))
    }

    /// A stream that keeps its state on the GPU from chunk to chunk: a step of one row, if nothing else is said.
    pub fn session(&self, #[wasm_bindgen(unchecked_optional_param_type = "Partial<Shape>")] options: JsValue) -> Result<Session> {
        let fields = Fields::new(options, &[SHAPE])?;
        let size = |name| Ok::<_, JsError>(fields.size(name)?.unwrap_or(1));
        let shape = SeqShape { seq_len: size("seqLen")?, batch_size: size("batchSize")? };
        let (Shared { buffer, .. }, rnn) = (&*self.shared, self.rnn());
        Ok(Session::new(rnn.context(), rnn.session(buffer, shape)?, shape))
    }
}

/// Of an `Output`.
fn fields_of(output: &Output) -> [(&'static str, JsValue); 2] {
    [("output", f32s(&output.output)), ("finalState", f32s(&output.final_state))]
}
