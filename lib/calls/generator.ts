import type { NativeGenerator } from '../native/contract.js'
import { native } from '../native/loader.js'
import type { Device } from '../tensors/types.js'

/** A separate source of random numbers, as `torch.Generator`: `torch.randn([2], { generator: new Generator(1) })`. */
export class Generator {
  /** @internal */
  readonly native: NativeGenerator

  constructor(seed: number | bigint, device: Device = 'cpu') {
    this.native = new native.Generator(seed, device)
  }
}
