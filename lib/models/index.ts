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
