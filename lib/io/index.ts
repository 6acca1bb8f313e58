export { loadCheckpoint, loadStateDict, type LoadOptions } from './load.js'
export type { MaterializeOptions } from './materialize.js'
export { saveCheckpoint, saveStateDict, type SaveOptions } from './save.js'
export type { FileOrBytes } from './source.js'
