import { loadTorchScript } from '../lib/index.js'
const s = await loadTorchScript('/work/shared/data/torchscript/silero_vad_v5.jit')
console.log(s.getSubmodule('_model_8k').code())
console.log(s.getSubmodule('_model').calls().map(c=>c.path))
console.log(s.getSubmodule('_model_8k').calls().map(c=>c.path))
console.log(s.getSubmodule('_model.encoder').calls().map(c=>c.path))
console.log(s.getSubmodule('_model.encoder').code())
console.log(s.getSubmodule('_model.encoder.1').code())
console.log(s.getSubmodule('_model.encoder.1').calls().map(c=>c.path))
