export { inspectScript, type InspectedModule, type ScriptSummary, type TapShape } from './inspect.js'
export { loadTorchScript, type LoadTorchScriptOptions } from './load.js'
export { ScriptModule, type FreezeOptions, type ModuleSummary, type ScriptMethod } from './script-module.js'
