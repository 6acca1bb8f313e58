/** Data sets, their files, and batches of them: the namespace `data`. */
import './named.js'

export { loadCifar10, loadCifar100, type Cifar100Options, type CifarOptions } from './cifar.js'
export { randomSplit, Subset, type Batch, type Dataset, type SampleView, type Taught } from './dataset.js'
export { readIdx, type IdxArray, type ReadIdxOptions } from './idx.js'
export { convertImages, type ImageConversion, type ImageFormat } from './image-format.js'
export { ImageDataset, type ImageDatasetInit, type ImageOptions } from './image-dataset.js'
export { DataLoader, type DataLoaderOptions } from './loader.js'
export {
  loadFashionMnist,
  loadIdxImages,
  loadMnist,
  type IdxImageOptions,
  type MnistOptions,
  type SplitOptions,
} from './mnist.js'
export { cutMix, mixUp, type BatchTransform, type MixOptions } from './mixing.js'
export type { Augmentation, ImageShape } from './pixels.js'
export { proceduralImages, type ProceduralOptions } from './procedural.js'
export { Random } from './random.js'
export {
  create,
  names,
  register,
  type DataFacts,
  type DatasetFactory,
  type RegisterDataOptions,
  type Split,
} from './registry.js'
export { TensorDataset } from './tensor-dataset.js'
