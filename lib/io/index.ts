export { loadCheckpoint, loadStateDict, type LoadOptions } from './load.js'
export type { MaterializeOptions } from './materialize.js'
export type { FileOrBytes } from './source.js'
