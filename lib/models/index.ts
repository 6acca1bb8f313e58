/** Networks to start from. */
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
