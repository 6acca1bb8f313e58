/** The part of a recorded step that a GPU may do beside what follows it. */
import { describe, expect, it } from 'vitest'
import {
  FeatureDistillationLoss,
  manualSeed,
  nn,
  noGrad,
  ones,
  optim,
  randint,
  randn,
  scope,
  type Tensor,
} from '../lib/index.js'
import type { NativeRecording } from '../lib/native/contract.js'
import { native } from '../lib/native/loader.js'
import { besideTheRest } from '../lib/trace/side-part.js'

class Net extends nn.Module<[Tensor], Tensor> {
  conv: nn.Conv2d
  bn: nn.BatchNorm2d
  drop = new nn.Dropout(0.3)
  head: nn.Linear
  constructor(width: number) {
    super()
    this.conv = new nn.Conv2d(3, width, 3, { padding: 1 })
    this.bn = new nn.BatchNorm2d(width)
    this.head = new nn.Linear(width, 5)
  }
  override forward(x: Tensor): Tensor {
    return this.classify(this.features(x))
  }
  features(x: Tensor): Tensor {
    return this.bn.forward(this.conv.forward(x)).relu_()
  }
  classify(features: Tensor): Tensor {
    return this.head.forward(this.drop.forward(features.mean([2, 3])))
  }
}

interface Setting {
  teacher: Net
  student: Net
  data: Tensor
  labels: Tensor
}

function makeSetting(): Setting {
  manualSeed(5)
  const teacher = new Net(6)
  teacher.eval()
  return { teacher, student: new Net(6), data: randn([4, 3, 6, 6]), labels: randint(5, [4]) }
}

function record(
  { teacher, student, data, labels }: Setting,
  loss: () => Tensor,
  more: Tensor[] = [],
): NativeRecording {
  const held = [teacher, student].flatMap(model => [...model.parameters(), ...model.buffers()])
  return new native.Recording(
    [...new Set([...held, ...more])].map(({ handle }) => handle),
    [data.handle, labels.handle],
    () => [scope(loss).handle],
    () => undefined,
  )
}

/** How the training functions put it. */
function distill({ teacher, student, data, labels }: Setting): Tensor {
  const taught = besideTheRest(() => noGrad(() => teacher.features(data)))
  const features = student.features(data)
  return new FeatureDistillationLoss().forward([features], [taught], student.classify(features), labels).total
}

const mean = (tensor: Tensor) => tensor.pow(2).mean()

/** The operators of a recording, without what only names values. */
function operatorsOf(recording: NativeRecording): string[] {
  return Array.from(recording.text().matchAll(/ = ((?:aten|alambic)::\w+)/g), match => match[1]!)
}

describe('what may run beside the rest', () => {
  it('a teacher does, up to where the loss takes its features', () => {
    const setting = makeSetting()
    const recording = record(setting, () => distill(setting))
    expect(recording.sidePart()).toBeNull()
    const operators = operatorsOf(recording)
    const [begin, end, join] = ['side_begin', 'side_end', 'side_join'].map(name =>
      operators.indexOf(`alambic::${name}`),
    ) as [number, number, number]
    const convolutions = operators.flatMap((name, at) => (name.endsWith('convolution') ? [at] : []))
    expect(convolutions).toHaveLength(2)
    expect(begin).toBeLessThan(convolutions[0]!)
    expect(convolutions[0]!).toBeLessThan(end)
    expect(end).toBeLessThan(convolutions[1]!)
    expect(convolutions[1]!).toBeLessThan(join)
    expect(operators.slice(join)).toContain('alambic::closure') // the loss
  })

  it('and may keep count for itself', () => {
    const setting = makeSetting()
    const count = ones([1])
    const recording = record(setting, () => {
      const taught = besideTheRest(() =>
        noGrad(() => (count.add_(1), setting.teacher.features(setting.data))),
      )
      return mean(setting.student.features(setting.data)).add(mean(taught))
    }, [count])
    expect(recording.sidePart()).toBeNull()
  })

  it('keeps what it reads until it is done', () => {
    const setting = makeSetting()
    const recording = record(setting, () => {
      const scaled = setting.data.mul(2)
      const taught = besideTheRest(() => noGrad(() => setting.teacher.features(scaled)))
      return mean(setting.student.features(setting.data)).add(mean(taught))
    })
    expect(recording.sidePart()).toBeNull()
    const kept = /%(\S+) : Tensor\[\] = prim::ListConstruct\((%\S+)\)\s+.*= alambic::side_join\(%\1\)/.exec(
      recording.text(),
    )
    expect(kept, recording.text()).not.toBeNull()
    expect(recording.text()).toMatch(new RegExp(`${kept![2]!} : .* = aten::mul\\(`))
  })

  it('there is none where none is marked', () => {
    const setting = makeSetting()
    const recording = record(setting, () => mean(setting.student.forward(setting.data)))
    expect(recording.sidePart()).toBeUndefined()
  })

  const shared = ones([1, 3, 1, 1])
  it.each<[string, RegExp, (setting: Setting) => Tensor]>([
    [
      'weights of the student’s',
      /parameters or buffers/,
      ({ student, data }) => {
        const taught = besideTheRest(() => noGrad(() => student.features(data)))
        return mean(student.features(data).sub(taught))
      },
    ],
    [
      'labels that the loss looks at',
      /parameters or buffers/,
      ({ student, data, labels }) => {
        const taught = besideTheRest(() => labels.unsqueeze(1).mul(1))
        return mean(student.forward(data).sub(taught)).add(labels.sum())
      },
    ],
    [
      'a constant of both',
      /constants/,
      ({ teacher, student, data }) => {
        const taught = besideTheRest(() => noGrad(() => teacher.features(data.mul(shared))))
        return mean(student.features(data.mul(shared)).sub(taught))
      },
    ],
    [
      'a batch that it changes',
      /changed in place/,
      ({ teacher, student, data }) => {
        const taught = besideTheRest(() => noGrad(() => teacher.features(data.mul_(0.5))))
        return mean(student.features(data).sub(taught))
      },
    ],
    [
      'a batch that the student changes, through a view',
      /changed in place/,
      ({ teacher, student, data }) => {
        const taught = besideTheRest(() => noGrad(() => teacher.features(data)))
        return mean(student.features(data.reshape([-1, 3, 6, 6]).mul_(0.5)).sub(taught))
      },
    ],
    [
      'a view of what changes',
      /changed in place/,
      ({ teacher, student, data }) => {
        const seen = data.flip([3])
        const view = seen.narrow(0, 0, 2)
        const taught = besideTheRest(() => noGrad(() => teacher.features(view)))
        return mean(student.features(seen.relu_())).add(mean(taught))
      },
    ],
    [
      'results that are needed at once',
      /at once/,
      ({ teacher, student, data }) => {
        const taught = besideTheRest(() => noGrad(() => teacher.features(data)))
        const target = taught.mul(2)
        return mean(student.features(data).sub(target))
      },
    ],
    [
      'two parts',
      /more than once/,
      ({ teacher, student, data }) => {
        const one = besideTheRest(() => noGrad(() => teacher.features(data)))
        const other = besideTheRest(() => noGrad(() => teacher.features(data)))
        return mean(student.features(data).sub(one).sub(other))
      },
    ],
    [
      'nothing',
      /nothing/,
      ({ student, data }) => {
        besideTheRest(() => 1)
        return mean(student.features(data))
      },
    ],
  ])('not: %s', (_, reason, loss) => {
    const setting = makeSetting()
    const recording = record(setting, () => loss(setting))
    expect(recording.sidePart()).toMatch(reason)
    expect(recording.text()).not.toContain('alambic::side')
  })
})

/** Losses of some steps, and what became of the student. */
async function train(isDeferred: boolean): Promise<{ losses: number[]; state: unknown[] }> {
  const setting = makeSetting()
  const { student, data, labels } = setting
  const recording = record(setting, () => distill(setting))
  if (isDeferred) recording.deferSidePart()
  const optimizer = new optim.Adam(student.parameters(), { lr: 0.01 })
  const handles = student.parameters().map(({ handle }) => handle)
  const step = new native.CompiledStep(optimizer.prepareStep(), handles, handles, undefined, 'operators')
  manualSeed(9)
  const losses: number[] = []
  for (let i = 0; i < 10; i++) {
    optimizer.prepareStep()
    losses.push(...(await step.run(recording, [data.handle, labels.handle])))
  }
  if (isDeferred) {
    const operators = operatorsOf(recording)
    expect(operators.indexOf('alambic::side_join') - operators.indexOf('alambic::side_end')).toBe(1)
  }
  return { losses, state: student.parameters().map(parameter => parameter.tolist()) }
}

it('trains alike when the teacher comes last', async () => {
  const [inLine, deferred] = [await train(false), await train(true)]
  expect(inLine.losses[9]!).toBeLessThan(inLine.losses[0]!)
  expect(deferred).toEqual(inLine)
})
