/** Options that do not exist, and values of another kind, are errors of everything that takes options. */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import * as alambic from '../lib/index.js'
import { nn, optim, tensor, zeros } from '../lib/index.js'

type Options = Record<string, unknown>
/** Calls with options; the test says what they are. */
type Call = (options: never) => unknown

class Net extends nn.Module<[alambic.Tensor], alambic.Tensor> {
  fc = new nn.Linear(2, 2)
  forward(x: alambic.Tensor) {
    return this.fc.forward(x)
  }
}

const weight = () => new nn.Parameter(zeros([2, 2]))
const sgd = () => new optim.SGD([weight()], { lr: 0.1, momentum: 0.9 })
const batches = [{ data: zeros([2, 2]), labels: tensor([0n, 1n]) }]
const file = join(tmpdir(), 'no', 'such', 'file')
const images = () => alambic.data.proceduralImages({ count: 4, size: 8 })
const rows = () => new alambic.data.TensorDataset(zeros([2, 2]), tensor([0n, 1n]))

/** By the path of what is exported: a call with given options, and one of the options that there are. */
const takers: Record<string, [Call, known: string]> = {
  tensor: [o => tensor(1, o), 'dtype'],
  fromTypedArray: [o => alambic.fromTypedArray(new Float32Array(1), [1], o), 'requiresGrad'],
  zeros: [o => zeros([1], o), 'dtype'],
  ones: [o => alambic.ones([1], o), 'device'],
  full: [o => alambic.full([1], 1, o), 'dtype'],
  empty: [o => alambic.empty([1], o), 'dtype'],
  randn: [o => alambic.randn([1], o), 'generator'],
  rand: [o => alambic.rand([1], o), 'generator'],
  randint: [o => alambic.randint(3, [1], o), 'dtype'],
  randperm: [o => alambic.randperm(3, o), 'generator'],
  arange: [o => alambic.arange(3, o), 'dtype'],
  linspace: [o => alambic.linspace(0, 1, 2, o), 'requiresGrad'],
  eye: [o => alambic.eye(2, o), 'dtype'],
  autocast: [o => alambic.autocast(o, () => 1), 'enabled'],
  grad: [o => alambic.grad([], [], o), 'createGraph'],
  captureFeatures: [o => alambic.captureFeatures(new Net(), ['fc'], zeros([1, 2]), o), 'replace'],
  attachFeatures: [o => alambic.attachFeatures(new Net(), ['fc'], o), 'calls'],
  FeatureProbe: [o => new alambic.FeatureProbe(new Net(), ['fc'], o), 'method'],
  loadTorchScript: [o => alambic.loadTorchScript(file, o), 'device'],
  exportTorchScript: [o => alambic.exportTorchScript(new Net(), [zeros([1, 2])], file, o), 'freeze'],
  loadStateDict: [o => alambic.loadStateDict(file, o), 'entry'],
  loadCheckpoint: [o => alambic.loadCheckpoint(file, o), 'entry'],
  saveStateDict: [o => alambic.saveStateDict({}, `${file}.pt`, o), 'metadata'],
  StudentWithFeatureExtraction: [o => new alambic.StudentWithFeatureExtraction(o), 'classes'],
  FeatureDistillationLoss: [o => new alambic.FeatureDistillationLoss(o), 'criterion'],
  AttentionTransfer: [o => new alambic.AttentionTransfer(o), 'weights'],
  LogitsDistillationLoss: [o => new alambic.LogitsDistillationLoss(o), 'temperature'],
  evaluate: [o => alambic.evaluate(new Net(), batches, o), 'input'],
  assess: [o => alambic.assess(new Net(), batches, o), 'teacher'],
  Distiller: [o => new alambic.Distiller(o), 'student'],
  trainClassifier: [o => alambic.trainClassifier(new Net(), batches, null, o), 'epochs'],
  trainWithLogitsDistillation: [
    o => alambic.trainWithLogitsDistillation(new Net(), new Net(), batches, null, o),
    'teacherInput',
  ],
  trainWithFeatureDistillation: [
    o => alambic.trainWithFeatureDistillation(new Net(), new Net(), batches, null, o),
    'featureLayers',
  ],
  trainWithObjective: [o => alambic.trainWithObjective(new Net(), new Net(), batches, null, o), 'objective'],
  'methods.Attention': [o => new alambic.methods.Attention(o), 'variant'],
  'methods.CrossEntropy': [o => new alambic.methods.CrossEntropy(o), 'labelSmoothing'],
  'methods.Features': [o => new alambic.methods.Features(o), 'adapt'],
  'methods.create': [o => alambic.methods.create('kd', o), 'temperature'],
  loadRecipe: [o => alambic.loadRecipe('none.yaml', o), 'imports'],
  'models.create': [o => alambic.models.create('resnet20', o), 'inChannels'],
  'data.create': [o => alambic.data.create('procedural', o), 'count'],
  'optim.create': [o => optim.create('sgd', [weight()], o), 'momentum'],
  'optim.lrScheduler.create': [o => optim.lrScheduler.create('step', sgd(), o, { length: 5 }), 'gamma'],
  'methods.KD': [o => new alambic.methods.KD(o), 'temperature'],
  'Tensor.to': [o => zeros([1]).to(o), 'dtype'],
  'Tensor.backward': [o => zeros([1], { requiresGrad: true }).backward(o), 'retainGraph'],
  'Tensor.isContiguous': [o => zeros([1]).isContiguous(o), 'memoryFormat'],
  'data.convertImages': [o => alambic.data.convertImages(o), 'from'],
  'data.DataLoader': [o => new alambic.data.DataLoader(rows(), o), 'batchSize'],
  'data.ImageDataset': [o => new alambic.data.ImageDataset(o), 'pixels'],
  'data.ImageDataset.with': [o => images().with(o), 'augment'],
  'data.ImageDataset.split': [o => images().split([2, 2], o), 'seed'],
  'data.TensorDataset': [o => new alambic.data.TensorDataset(zeros([1]), tensor([0n]), o), 'classes'],
  'data.loadCifar10': [o => alambic.data.loadCifar10(file, o), 'train'],
  'data.loadCifar100': [o => alambic.data.loadCifar100(file, o), 'labels'],
  'data.loadMnist': [o => alambic.data.loadMnist(file, o), 'files'],
  'data.loadFashionMnist': [o => alambic.data.loadFashionMnist(file, o), 'train'],
  'data.loadIdxImages': [o => alambic.data.loadIdxImages(file, file, o), 'maxBytes'],
  'data.mixUp': [o => alambic.data.mixUp(o), 'classes'],
  'data.cutMix': [o => alambic.data.cutMix(o), 'alpha'],
  'data.proceduralImages': [o => alambic.data.proceduralImages(o), 'count'],
  'data.randomSplit': [o => alambic.data.randomSplit(rows(), [1, 1], o), 'seed'],
  'data.readIdx': [o => alambic.data.readIdx(file, o), 'maxBytes'],
  'optim.SGD': [o => new optim.SGD([weight()], o), 'momentum'],
  'optim.Adam': [o => new optim.Adam([weight()], o), 'betas'],
  'optim.AdamW': [o => new optim.AdamW([weight()], o), 'weightDecay'],
  'optim.SGD.zeroGrad': [o => sgd().zeroGrad(o), 'setToNone'],
  'optim.clipGradNorm_': [o => optim.clipGradNorm_([weight()], 1, o), 'normType'],
  'optim.lrScheduler.LambdaLR': [o => new optim.lrScheduler.LambdaLR(sgd(), () => 1, o), 'lastEpoch'],
  'optim.lrScheduler.StepLR': [o => new optim.lrScheduler.StepLR(sgd(), 2, o), 'gamma'],
  'optim.lrScheduler.MultiStepLR': [o => new optim.lrScheduler.MultiStepLR(sgd(), [2], o), 'gamma'],
  'optim.lrScheduler.ExponentialLR': [o => new optim.lrScheduler.ExponentialLR(sgd(), 0.9, o), 'lastEpoch'],
  'optim.lrScheduler.LinearLR': [o => new optim.lrScheduler.LinearLR(sgd(), o), 'totalIters'],
  'optim.lrScheduler.CosineAnnealingLR': [
    o => new optim.lrScheduler.CosineAnnealingLR(sgd(), 5, o),
    'etaMin',
  ],
  'optim.lrScheduler.OneCycleLR': [o => new optim.lrScheduler.OneCycleLR(sgd(), 1, o), 'totalSteps'],
  'optim.lrScheduler.ReduceLROnPlateau': [o => new optim.lrScheduler.ReduceLROnPlateau(sgd(), o), 'patience'],
  'nn.Parameter': [o => new nn.Parameter(zeros([1]), o), 'requiresGrad'],
  'nn.Module.registerBuffer': [o => new Net().registerBuffer('b', zeros([1]), o), 'persistent'],
  'nn.Module.loadStateDict': [o => new Net().loadStateDict(new Net().stateDict(), o), 'strict'],
  'nn.Module.to': [o => new nn.ReLU().to(o), 'memoryFormat'],
  'nn.Conv1d': [o => new nn.Conv1d(1, 1, 1, o), 'padding'],
  'nn.Conv2d': [o => new nn.Conv2d(1, 1, 1, o), 'stride'],
  'nn.Conv3d': [o => new nn.Conv3d(1, 1, 1, o), 'groups'],
  'nn.ConvTranspose2d': [o => new nn.ConvTranspose2d(1, 1, 1, o), 'outputPadding'],
  'nn.Linear': [o => new nn.Linear(1, 1, o), 'bias'],
  'nn.BatchNorm1d': [o => new nn.BatchNorm1d(1, o), 'momentum'],
  'nn.BatchNorm2d': [o => new nn.BatchNorm2d(1, o), 'trackRunningStats'],
  'nn.GroupNorm': [o => new nn.GroupNorm(1, 1, o), 'affine'],
  'nn.LayerNorm': [o => new nn.LayerNorm(1, o), 'elementwiseAffine'],
  'nn.AvgPool2d': [o => new nn.AvgPool2d(1, o), 'ceilMode'],
  'nn.MaxPool2d': [o => new nn.MaxPool2d(1, o), 'dilation'],
  'nn.Dropout': [o => new nn.Dropout(0.5, o), 'inplace'],
  'nn.Dropout2d': [o => new nn.Dropout2d(0.5, o), 'inplace'],
  'nn.Embedding': [o => new nn.Embedding(1, 1, o), 'paddingIdx'],
  'nn.ReLU': [o => new nn.ReLU(o), 'inplace'],
  'nn.ReLU6': [o => new nn.ReLU6(o), 'inplace'],
  'nn.SiLU': [o => new nn.SiLU(o), 'inplace'],
  'nn.Hardswish': [o => new nn.Hardswish(o), 'inplace'],
  'nn.Hardsigmoid': [o => new nn.Hardsigmoid(o), 'inplace'],
  'nn.LeakyReLU': [o => new nn.LeakyReLU(o), 'negativeSlope'],
  'nn.GELU': [o => new nn.GELU(o), 'approximate'],
  'nn.Flatten': [o => new nn.Flatten(o), 'startDim'],
  'nn.Upsample': [o => new nn.Upsample(o), 'scaleFactor'],
  'nn.CrossEntropyLoss': [o => new nn.CrossEntropyLoss(o), 'labelSmoothing'],
  'nn.KLDivLoss': [o => new nn.KLDivLoss(o), 'logTarget'],
  'nn.MSELoss': [o => new nn.MSELoss(o), 'reduction'],
  'nn.init.uniform_': [o => nn.init.uniform_(zeros([1]), o), 'generator'],
  'nn.init.normal_': [o => nn.init.normal_(zeros([1]), o), 'mean'],
  'nn.init.truncNormal_': [o => nn.init.truncNormal_(zeros([1]), o), 'mean'],
  'nn.init.xavierUniform_': [o => nn.init.xavierUniform_(zeros([2, 2]), o), 'gain'],
  'nn.init.xavierNormal_': [o => nn.init.xavierNormal_(zeros([2, 2]), o), 'gain'],
  'nn.init.kaimingUniform_': [o => nn.init.kaimingUniform_(zeros([2, 2]), o), 'nonlinearity'],
  'nn.init.kaimingNormal_': [o => nn.init.kaimingNormal_(zeros([2, 2]), o), 'mode'],
  'nn.init.orthogonal_': [o => nn.init.orthogonal_(zeros([2, 2]), o), 'gain'],
  'models.ConvNet': [o => new alambic.models.ConvNet(o), 'widths'],
  'models.MobileNetV2': [o => new alambic.models.MobileNetV2(o), 'widthMult'],
  'models.mobilenetV2': [o => alambic.models.mobilenetV2(o), 'widthMult'],
  'models.CifarResNet': [o => new alambic.models.CifarResNet(20, o), 'width'],
  'models.CifarResNetB': [o => new alambic.models.CifarResNetB(8, o), 'widths'],
  'models.ResNet': [o => new alambic.models.ResNet(18, o), 'classes'],
  'models.WideResNet': [o => new alambic.models.WideResNet(10, 1, o), 'dropout'],
  ...Object.fromEntries(
    (
      'resnet20 resnet32 resnet44 resnet56 resnet110 wrn_16_1 wrn_16_2 wrn_40_1 wrn_40_2 resnet18 resnet34 resnet50 ' +
      'resnet8x4 resnet32x4 resnet20B resnet56B resnet110B'
    )
      .split(' ')
      .map(name => [
        `models.${name}`,
        [
          (o: never) =>
            (alambic.models as unknown as Record<string, (options: Options) => unknown>)[name]!(o),
          'inChannels',
        ],
      ]),
  ),
}

/** What is exported and takes no options. `torch` and `nn.functional` have tests of their own, `backends` are switches. */
const others = new Set(
  (
    'AlambicError Tensor slice Slice enableGrad isGradEnabled noGrad deviceMemory keep limitIdleMemory memory ' +
    'releaseIdleMemory scope unscoped Generator getRngState manualSeed setRngState inspectScript ScriptModule ' +
    'AdaptationLayer formatEpoch saveCheckpoint data.Subset data.Random optim.Optimizer optim.clipGradValue_ ' +
    'optim.lrScheduler.LRScheduler optim.lrScheduler.SequentialLR nn.Module nn.AdaptiveAvgPool2d nn.AdaptiveMaxPool2d ' +
    'nn.Sigmoid nn.Tanh nn.Softmax nn.Identity nn.ModuleDict nn.ModuleList nn.Sequential nn.init.calculateGain ' +
    'nn.init.constant_ nn.init.zeros_ nn.init.ones_ getFloat32MatmulPrecision setFloat32MatmulPrecision ' +
    'isWarnAlwaysEnabled setWarnAlways models.preprocessingOf Objective Term methods.names methods.register ' +
    'models.names models.register data.names data.register optim.names optim.register ' +
    'optim.lrScheduler.names optim.lrScheduler.register recipeSchema'
  ).split(' '),
)

/** What may stand in the place of options. */
const isMeaningful: Record<string, string[]> = {
  arange: ['number'],
  'Tensor.to': ['string'],
  'nn.Module.to': ['string'],
}

/** Functions and classes by their paths; namespaces are walked through. */
function exported(namespace: object, path = ''): string[] {
  return Object.entries(namespace).flatMap(([name, value]) => {
    const full = path + name
    if (['torch', 'nn.functional', 'backends'].includes(full)) return []
    if (typeof value === 'function') return [full]
    return typeof value === 'object' && value !== null ? exported(value as object, `${full}.`) : []
  })
}

async function errorOf(call: Call, options: unknown): Promise<alambic.AlambicError | undefined> {
  try {
    await call(options as never)
    return undefined
  } catch (error) {
    expect(error).toBeInstanceOf(alambic.AlambicError)
    return error as alambic.AlambicError
  }
}

describe('options', () => {
  it('of all that is exported are tried below', () => {
    const known = [...Object.keys(takers), ...others]
    expect(exported(alambic).filter(path => !known.includes(path))).toEqual([])
  })

  describe.each(Object.entries(takers))('of %s', (name, [call, known]) => {
    it('that do not exist are refused, with the nearest name', async () => {
      const misspelled = `${known}s`
      const error = await errorOf(call, { [misspelled]: 1 })
      expect(error?.code).toBe('ERR_ARGUMENT')
      expect(error?.message).toContain(`there is no option "${misspelled}"; did you mean "${known}"?`)
    })

    it('that are undefined count as absent', async () => {
      const error = await errorOf(call, { noSuchOption: undefined, [known]: undefined })
      expect(error?.message ?? '').not.toContain('noSuchOption')
    })

    it('come in an object', async () => {
      for (const wrong of [null, 1, 'text', [1], new Map([['a', 1]]), () => 1])
        if (!isMeaningful[name]?.includes(typeof wrong))
          expect((await errorOf(call, wrong))?.code).toBe('ERR_ARGUMENT')
    })
  })
})

describe('training functions', () => {
  const refused: [name: string, value: unknown][] = [
    ...['5', Number.NaN, -1, 2.5, 0, null, Infinity].map((value): [string, unknown] => ['epochs', value]),
    ...['0.1', null, -1, Number.NaN, Infinity].map((value): [string, unknown] => ['lr', value]),
    ['clipGradNorm', -1],
    ['clipGradNorm', Number.NaN],
    ['schedulerMetric', 1],
    ['clipGradNorm', '1'],
    ['logEvery', 0],
    ['log', 'yes'],
    ['onStep', 1],
    ['onEpoch', {}],
    ['optimizer', sgd()],
    ['scheduler', {}],
    ['schedulerInterval', 'batch'],
    ['device', 0],
    ['signal', new AbortController()],
    ['compile', 'yes'],
    ['speed', 'fast'],
  ]
  it.each(refused)('refuse %s: %s before anything is changed', async (name, value) => {
    const [teacher, student] = [new Net(), new Net()]
    student.eval()
    const before = student.fc.weight.tolist()
    for (const train of [
      () => alambic.trainClassifier(student, batches, null, { [name]: value }),
      () => alambic.trainWithLogitsDistillation(teacher, student, batches, null, { [name]: value }),
      () =>
        alambic.trainWithFeatureDistillation(teacher, student, batches, null, {
          featureLayers: ['fc'],
          [name]: value,
        }),
    ]) {
      const error = await errorOf(train, undefined)
      expect(error?.code).toBe('ERR_ARGUMENT')
      expect(error?.message).toContain(name)
    }
    expect([student.training, teacher.training]).toEqual([false, true])
    expect(student.fc.weight.tolist()).toEqual(before)
  })
})
