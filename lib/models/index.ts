/** Networks to start from: the namespace `models`. */
import {
  CifarResNet,
  cifarResNetOptions,
  resnet110,
  resnet20,
  resnet32,
  resnet44,
  resnet56,
} from './cifar-resnet.js'
import {
  CifarResNetB,
  cifarResNetBOptions,
  namedWidthOptions,
  resnet110B,
  resnet20B,
  resnet32x4,
  resnet56B,
  resnet8x4,
} from './cifar-resnet-b.js'
import { ConvNet, convNetOptions } from './conv-net.js'
import { mobilenetOptions, mobilenetV2 } from './mobilenet-v2.js'
import { depth, widenFactor } from './option-kinds.js'
import { registry, type ModelFactory } from './registry.js'
import { resnet18, resnet34, resnet50, resnetOptions } from './resnet.js'
import { WideResNet, wideResNetOptions, wrn_16_1, wrn_16_2, wrn_40_1, wrn_40_2 } from './wide-resnet.js'
import type { OptionKinds } from '../checks/registry.js'

export {
  CifarResNet,
  resnet110,
  resnet20,
  resnet32,
  resnet44,
  resnet56,
  type CifarResNetOptions,
} from './cifar-resnet.js'
export { ConvNet, type ConvNetOptions } from './conv-net.js'
export {
  CifarResNetB,
  resnet110B,
  resnet20B,
  resnet32x4,
  resnet56B,
  resnet8x4,
  type CifarResNetBOptions,
  type NamedWidthOptions,
} from './cifar-resnet-b.js'
export { WideResNet, wrn_16_1, wrn_16_2, wrn_40_1, wrn_40_2, type WideResNetOptions } from './wide-resnet.js'
export { ResNet, resnet18, resnet34, resnet50, type ResNetOptions } from './resnet.js'
export { preprocessingOf, type Preprocessing } from './preprocessing.js'
export { MobileNetV2, mobilenetV2, type MobileNetV2Options } from './mobilenet-v2.js'
export { create, names, register, type ModelContext, type ModelFactory } from './registry.js'

function addAll(factories: Record<string, ModelFactory>, options: OptionKinds, description: string): void {
  for (const [name, make] of Object.entries(factories)) registry.add(name, { make, options, description })
}

type Rest = Record<string, unknown>

addAll(
  { resnet20, resnet32, resnet44, resnet56, resnet110 },
  cifarResNetOptions,
  'A residual network for small pictures, shortcuts without parameters. He et al., 2015.',
)
addAll(
  {
    cifarResNet: ({ depth, ...rest }: Rest) => new CifarResNet(depth as number, rest),
  },
  { depth: depth('6n + 2'), ...cifarResNetOptions },
  'A residual network for small pictures, shortcuts without parameters. He et al., 2015.',
)
addAll(
  { resnet20B, resnet56B, resnet110B, resnet8x4, resnet32x4 },
  namedWidthOptions,
  'A residual network for small pictures as the literature on distillation has it, shortcuts with projections.',
)
addAll(
  {
    cifarResNetB: ({ depth, ...rest }: Rest) => new CifarResNetB(depth as number, rest),
  },
  { depth: depth('6n + 2'), ...cifarResNetBOptions },
  'A residual network for small pictures as the literature on distillation has it, shortcuts with projections.',
)
addAll(
  { wrn_16_1, wrn_16_2, wrn_40_1, wrn_40_2 },
  wideResNetOptions,
  'A wide residual network. Zagoruyko & Komodakis, 2016.',
)
addAll(
  {
    wideResNet: ({ depth, widenFactor, ...rest }: Rest) =>
      new WideResNet(depth as number, widenFactor as number, rest),
  },
  { depth: depth('6n + 4'), widenFactor, ...wideResNetOptions },
  'A wide residual network. Zagoruyko & Komodakis, 2016.',
)
addAll(
  { resnet18, resnet34, resnet50 },
  resnetOptions,
  "A residual network for large pictures; torchvision's weights load.",
)
addAll({ mobilenetV2 }, mobilenetOptions, 'Inverted residuals. Sandler et al., 2018.')
addAll(
  { convNet: options => new ConvNet(options) },
  convNetOptions,
  'A plain network of 3×3 convolutions with batch norm.',
)
