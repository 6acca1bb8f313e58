/** One training step of a small student on one image with TensorFlow.js. Arguments: where it is installed. */
import { createRequire } from 'node:module'
import process from 'node:process'

const tf = createRequire(`${process.argv[2]}/`)('@tensorflow/tfjs')
/** @type {(filters: number, inputShape?: number[]) => any} */
const convolution = (filters, inputShape) =>
  tf.layers.conv2d({
    filters,
    kernelSize: 3,
    padding: 'same',
    activation: 'relu',
    ...(inputShape && { inputShape }),
  })
const model = tf.sequential({
  layers: [
    convolution(64, [32, 32, 3]),
    convolution(128),
    convolution(256),
    tf.layers.globalAveragePooling2d({}),
    tf.layers.dense({ units: 10, activation: 'softmax' }),
  ],
})
model.compile({ optimizer: tf.train.adam(1e-3), loss: 'sparseCategoricalCrossentropy' })
const start = performance.now()
await model.trainOnBatch(tf.randomNormal([1, 32, 32, 3]), tf.tensor1d([3]))
console.log(
  JSON.stringify({
    milliseconds: performance.now() - start,
    version: tf.version.tfjs,
    backend: tf.getBackend(),
  }),
)
