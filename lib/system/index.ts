/** What this libtorch and this machine can do. */
export {
  backends,
  getFloat32MatmulPrecision,
  isWarnAlwaysEnabled,
  setFloat32MatmulPrecision,
  setWarnAlways,
  type Float32MatmulPrecision,
} from './backends.js'
