/**
 * The device of the tests that every device has to pass: `ALAMBIC_TEST_DEVICE`, the CPU unless it is set. Their tensors
 * come from the functions of the same names here, their modules are moved by `.to(device)`.
 *
 * Values are the same on all devices: they are made on the CPU, and moved.
 */
import { beforeEach } from 'vitest'
import * as alambic from '../lib/index.js'
import { native } from '../lib/native/loader.js'

export const device: alambic.Device = process.env['ALAMBIC_TEST_DEVICE'] || 'cpu'

export const isOnGpu = device !== 'cpu'

if (!/^(cpu|cuda(:\d+)?)$/.test(device))
  throw new Error(`ALAMBIC_TEST_DEVICE: expected cpu, cuda or cuda:<number>, got ${device}`)

// Tensor cores round float32 to 10 bits in convolutions; values are compared closer than that. Read by NVIDIA's libraries.
if (isOnGpu) process.env['NVIDIA_TF32_OVERRIDE'] ??= '0'

// Who asks for a GPU wants to know that there is none: nothing is skipped.
if (isOnGpu && native.systemInfo().cudaDevices === 0)
  beforeEach(() => {
    throw new Error(`ALAMBIC_TEST_DEVICE=${device}, but there is no usable GPU: npx alambic doctor says why`)
  })

type Factory = (...args: never[]) => alambic.Tensor

/** The same function with its results on the device, unless its options name another. */
function onDevice<Make extends Factory>(make: Make): Make {
  if (!isOnGpu) return make
  const moved = (...args: unknown[]) => {
    const given = args.at(-1)
    const options = isOptions(given) ? given : {}
    if (options.device !== undefined) return make(...(args as never[]))
    const { requiresGrad = false, ...others } = options
    const onCpu = make(...([...(isOptions(given) ? args.slice(0, -1) : args), others] as never[]))
    const result = onCpu.to(device)
    onCpu.dispose()
    result.requiresGrad = requiresGrad
    return result
  }
  return moved as unknown as Make
}

function isOptions(value: unknown): value is alambic.TensorOptions {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
}

export const tensor = onDevice(alambic.tensor)
export const fromTypedArray = onDevice(alambic.fromTypedArray)
export const zeros = onDevice(alambic.zeros)
export const ones = onDevice(alambic.ones)
export const full = onDevice(alambic.full)
export const rand = onDevice(alambic.rand)
export const randn = onDevice(alambic.randn)
export const randint = onDevice(alambic.randint)
export const arange = onDevice(alambic.arange)
export const eye = onDevice(alambic.eye)
