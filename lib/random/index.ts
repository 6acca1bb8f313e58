/** Random numbers: seeds, and the states of default generators. */
import { handleOf, Tensor } from '../tensors/tensor.js'
import { native } from '../native/loader.js'
import type { Device } from '../tensors/types.js'

export { Generator } from '../calls/generator.js'

/**
 * Seeds the default generators of all devices; that of the CPU is this thread's own. The same seed, the same operations
 * and the same number of threads give the same bits on the CPU. As `torch.manual_seed`.
 *
 * @param seed an integer; a bigint beyond 2^53
 */
export function manualSeed(seed: number | bigint): void {
  native.manualSeed(seed)
}

/**
 * The state of a device's default generator (for the CPU, this thread's), for {@link setRngState}. As
 * `torch.get_rng_state`.
 */
export function getRngState(device: Device = 'cpu'): Tensor {
  return new Tensor(native.rngState(device))
}

/**
 * Sets the state of a device's default generator (for the CPU, this thread's) to one of {@link getRngState}. As
 * `torch.set_rng_state`.
 */
export function setRngState(state: Tensor, device: Device = 'cpu'): void {
  native.setRngState(device, handleOf('setRngState: state', state))
}
