/** Models for other programs. */
export { exportTorchScript, type ExportOptions, type ExportResult } from './torchscript.js'
