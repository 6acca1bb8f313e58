/** How long tensors live, and the memory that they take. */
export {
  deviceMemory,
  keep,
  limitIdleMemory,
  memory,
  releaseIdleMemory,
  scope,
  unscoped,
  type DeviceMemory,
  type Memory,
} from './memory.js'
