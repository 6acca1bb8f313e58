import { AlambicError } from '../errors.js'
import type { Handle, NativeMappedFile } from '../native/contract.js'
import { native } from '../native/loader.js'
import { boolean, device, dtype, type Kinds } from '../checks/options.js'
import { Tensor } from '../tensors/tensor.js'
import { torch } from '../calls/index.js'
import type { Device, DType } from '../tensors/types.js'
import { itemSize, requireDType } from './dtypes.js'
import { contiguousStrides, StorageRecord, type TensorRecord } from './records.js'
import type { ByteSource } from './source.js'

export interface MaterializeOptions {
  /** Where the tensors go. Default: `'cpu'`, also if they were saved from a GPU. */
  device?: Device
  /** Converts floating point tensors. Default: as saved. */
  dtype?: DType
  /**
   * Maps files into memory, so that pages are read when they are first used, instead of reading the whole file.
   * Default: true.
   */
  mmap?: boolean
}

export const materializeOptions: Kinds<MaterializeOptions> = { device, dtype, mmap: boolean }

/** Makes tensors of records; what shares a storage in the file shares it in memory. */
export class TensorMaker {
  private readonly storages = new Map<StorageRecord, Tensor>()
  private readonly mappings = new Map<ByteSource, NativeMappedFile>()
  private readonly made: Tensor[] = []
  private readonly device: Device
  private readonly dtype: DType | undefined
  private readonly mmap: boolean

  constructor({ device = 'cpu', dtype, mmap = true }: MaterializeOptions) {
    this.device = device
    this.dtype = dtype
    this.mmap = mmap
  }

  /** @throws AlambicError `ERR_FILE_FORMAT` for damaged data, `ERR_DTYPE` for a dtype that this libtorch has not */
  async tensor(record: TensorRecord, name: string): Promise<Tensor> {
    requireDType(record.dtype, name)
    const { storage, from } = await this.storage(record.storage)
    const offset = from / itemSize(record.dtype) + record.offset
    if (!Number.isInteger(offset))
      throw new AlambicError('ERR_FILE_FORMAT', `${name}: expected a view at whole elements of its storage`)
    let tensor = this.own(view(storage, record, offset))
    if (record.isConjugate) tensor = this.own(torch._conj(tensor))
    if (record.isNegative) tensor = this.own(torch._negView(tensor))
    const isFloat = /^(float|bfloat|complex)/.test(record.dtype)
    if (this.dtype !== undefined && isFloat) tensor = this.own(tensor.to(this.dtype))
    return tensor
  }

  /** All elements of a storage. */
  storageTensor(record: StorageRecord, name: string): Promise<Tensor> {
    const { dtype, bytes } = record
    const shape = [Math.floor(bytes / itemSize(dtype))]
    const whole = { storage: record, dtype, shape, strides: contiguousStrides(shape), offset: 0 }
    return this.tensor({ ...whole, isConjugate: false, isNegative: false } as TensorRecord, name)
  }

  /** Releases what is not among the results, and with `failed` those too. */
  finish(results: ReadonlySet<Tensor>): void {
    for (const tensor of this.made) if (!results.has(tensor)) tensor.dispose()
    for (const tensor of this.storages.values()) tensor.dispose()
  }

  private own(tensor: Tensor): Tensor {
    this.made.push(tensor)
    return tensor
  }

  private async storage(record: StorageRecord): Promise<{ storage: Tensor; from: number }> {
    let from = 0
    let root = record
    for (; root.part !== undefined; root = root.part.of) from += root.part.from
    let storage = this.storages.get(root)
    if (storage === undefined) {
      storage = await this.load(root)
      this.storages.set(root, storage)
    }
    return { storage, from }
  }

  private async load(record: StorageRecord): Promise<Tensor> {
    const { source, offset, verify } = record.place!
    await verify?.()
    const isAligned = offset % Math.min(itemSize(record.dtype), 8) === 0
    const handle =
      this.mmap && source.descriptor !== undefined && isAligned
        ? this.mapping(source, source.descriptor).storage(offset, record.bytes)
        : copyOf(await source.read(offset, record.bytes))
    const storage = new Tensor(handle, false)
    if (this.device === 'cpu') return storage
    try {
      return storage.to(this.device)
    } finally {
      storage.dispose()
    }
  }

  private mapping(source: ByteSource, descriptor: number): NativeMappedFile {
    let mapping = this.mappings.get(source)
    if (mapping === undefined) {
      mapping = new native.MappedFile(descriptor, source.size)
      this.mappings.set(source, mapping)
    }
    return mapping
  }
}

function copyOf(bytes: Buffer): Handle {
  return native.tensorFromData(bytes, 'uint8', [bytes.length], 'uint8', 'cpu')
}

function view(storage: Tensor, { dtype, shape, strides }: TensorRecord, offset: number): Tensor {
  return new Tensor(native.viewStorage(storage.handle, dtype, shape, strides, offset), false)
}
