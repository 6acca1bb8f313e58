/**
 * A server answers with the newest weights while the model trains in the same process. It uses a copy of the model, which
 * is never in training mode; the copy gets the weights after each epoch.
 *
 *     npx tsx examples/serve-while-training.ts
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { data, manualSeed, models, noGrad, scope, trainClassifier } from 'alambic'

const kind = { size: 16, classes: 4 }
const pictures = data.proceduralImages({ count: 600, seed: 1, ...kind })
const train = new data.DataLoader(pictures, { batchSize: 50, shuffle: true })

manualSeed(1)
const make = () => new models.ConvNet({ widths: [8, 16, 32], classes: 4 })
const model = make()
const served = make().eval()

// The event loop runs between the parts of a step; with `compile: true` it is free all the time.
const server = createServer((request, response) => {
  const number = Number(request.url?.slice(1)) % pictures.length
  const answer = scope(() =>
    noGrad(() =>
      served
        .forward(pictures.batch([number]).data)
        .argmax({ dim: 1 })
        .item(),
    ),
  )
  response.end(JSON.stringify({ picture: number, class: answer }))
})
await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
const { port } = server.address() as AddressInfo

const training = trainClassifier(model, train, null, {
  epochs: 4,
  lr: 5e-3,
  logEvery: 1,
  onEpoch: () => {
    served.loadStateDict(model.stateDict())
  },
})

// Send requests during the training.
let isOver = false
const over = training.finally(() => (isOver = true))
let answers = 0
while (!isOver) {
  const response = await fetch(`http://127.0.0.1:${port}/${answers % 600}`)
  await response.json()
  answers++
  await new Promise(resolve => setTimeout(resolve, 20))
}
await over
console.log(answers > 0 ? 'Requests were answered during the training.' : 'No request was answered.')
server.close()
