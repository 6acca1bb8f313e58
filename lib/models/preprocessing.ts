import { show } from '../errors.js'
import { Module, stateDict, type StateDict } from '../nn/module.js'
import { requireKind } from '../checks/options.js'
import { requireTensor } from '../tensors/tensor.js'

/** The format of the images that published weights were trained on. */
export interface Preprocessing {
  /** Subtracted from each channel, in the unit of `range`. */
  mean: readonly number[]
  /** Divides each channel after that. */
  std: readonly number[]
  range: readonly [black: number, white: number]
  order: 'RGB'
  layout: 'NCHW'
  channels: 3
  size: readonly [height: number, width: number]
  /** Outputs of the last layer. */
  classes: number
  /** The data set: `'CIFAR-10'`. */
  dataset: string
  /** The repository or package whose weights have these keys. */
  source: string
}

type Known = Pick<Preprocessing, 'mean' | 'std' | 'size' | 'dataset' | 'source'>

/** Of torchvision's weights, and of whoever took its numbers. */
const imageNet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const
const small = [32, 32] as const
const large = [224, 224] as const

/** `Normalize` in `trainer.py`: the numbers are ImageNet's. */
const akamaster: Known = {
  ...imageNet,
  size: small,
  dataset: 'CIFAR-10',
  source: 'akamaster/pytorch_resnet_cifar10',
}
/** `dataset/cifar100.py`. */
const repDistiller: Known = {
  mean: [0.5071, 0.4867, 0.4408],
  std: [0.2675, 0.2565, 0.2761],
  size: small,
  dataset: 'CIFAR-100',
  source: 'HobbitLong/RepDistiller',
}
/** Its CIFAR-10 networks have RepDistiller's keys; `conf/cifar10.conf`. */
const chenyaofo: Known = {
  mean: [0.4914, 0.4822, 0.4465],
  std: [0.2023, 0.1994, 0.201],
  size: small,
  dataset: 'CIFAR-10',
  source: 'chenyaofo/pytorch-cifar-models',
}
const torchvision: Known = { ...imageNet, size: large, dataset: 'ImageNet', source: 'pytorch/vision' }

/** A kind of keys: the first and the last layer, a layer between, and whose weights it is for how many classes. */
interface Layout {
  first: string
  /** Height and width of its kernel. */
  kernel: number
  between: string
  /** What only others have. */
  absent?: string
  last: string
  published: Readonly<Record<number, Known>>
}

/** Of networks for large images, and of their like for small ones. */
const fourthStage = 'layer4.0.conv1.weight'

const layouts: readonly Layout[] = [
  {
    first: 'conv1.weight',
    kernel: 3,
    between: 'layer3.0.conv1.weight',
    absent: fourthStage,
    last: 'linear.weight',
    published: { 10: akamaster },
  },
  {
    first: 'conv1.weight',
    kernel: 3,
    between: 'layer3.0.downsample.0.weight',
    absent: fourthStage,
    last: 'fc.weight',
    published: { 10: chenyaofo, 100: repDistiller },
  },
  {
    first: 'conv1.weight',
    kernel: 3,
    between: 'block3.layer.0.convShortcut.weight',
    last: 'fc.weight',
    published: { 100: repDistiller },
  },
  {
    first: 'conv1.weight',
    kernel: 7,
    between: fourthStage,
    last: 'fc.weight',
    published: { 1000: torchvision },
  },
  {
    first: 'features.0.0.weight',
    kernel: 3,
    between: 'features.18.0.weight',
    last: 'classifier.1.weight',
    published: { 1000: torchvision },
  },
]

/**
 * The format of images that published weights need, found by the keys and shapes of the weights (a prefix such as
 * `module.` is ignored), or of a model with the same keys. Undefined if no published weights with these keys, this
 * number of classes and three channels are known.
 *
 * Keys do not say who trained a model: for weights of your own, use the format that you trained them with.
 *
 * @example
 *   const weights = await loadStateDict('resnet20-12fca82f.th')
 *   const { mean, std } = models.preprocessingOf(weights)!
 *   const test = await data.loadCifar10('cifar', { train: false, mean, std })
 */
export function preprocessingOf(weights: StateDict | Module): Preprocessing | undefined {
  const shapes = shapesOf(weights)
  for (const { first, kernel, between, absent, last, published } of layouts) {
    const prefix = prefixOf(shapes, last)
    const stem = prefix === undefined ? undefined : shapes.get(prefix + first)
    const isThis =
      stem?.[1] === 3 &&
      stem[2] === kernel &&
      stem[3] === kernel &&
      shapes.has(`${prefix}${between}`) &&
      !shapes.has(`${prefix}${absent}`)
    if (!isThis) continue
    const classes = shapes.get(prefix + last)![0]!
    const known = Object.hasOwn(published, classes) ? published[classes] : undefined
    if (known !== undefined)
      return { ...known, range: [0, 1], order: 'RGB', layout: 'NCHW', channels: 3, classes }
  }
  return undefined
}

function shapesOf(weights: StateDict | Module): Map<string, number[]> {
  if (!(weights instanceof Module)) {
    requireKind('preprocessingOf: weights', { ...stateDict, expected: 'a state dict or a module' }, weights)
    return new Map(
      Object.entries(weights).map(([key, tensor]) => {
        requireTensor(`preprocessingOf: weights[${show(key)}]`, tensor)
        return [key, tensor.shape]
      }),
    )
  }
  const state = weights.stateDict()
  try {
    return shapesOf(state)
  } finally {
    for (const tensor of Object.values(state)) tensor.dispose()
  }
}

/** What stands before the key in the only one that ends with it. */
function prefixOf(shapes: ReadonlyMap<string, unknown>, name: string): string | undefined {
  const [key, ...others] = [...shapes.keys()].filter(each => each === name || each.endsWith(`.${name}`))
  return key === undefined || others.length > 0 ? undefined : key.slice(0, -name.length)
}
