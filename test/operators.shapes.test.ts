/** Calls whose arguments do not fit together, of operators whose kernels do not look: each ended the process. */
import { describe, expect, it } from 'vitest'
import { ones, randn, tensor, torch, zeros, type Tensor } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { errorOf, isOldest } from './nn.fixtures.js'

type Operator = (...args: unknown[]) => unknown
const aten = torch.ops['aten'] as unknown as Record<string, Operator | undefined>
/** Not every version of libtorch has all of them. */
const names = new Set(native.operatorSchemas('aten').map(text => /^aten::(\w+)/.exec(text)![1]))
const exists = ([operator]: readonly [string, ...unknown[]]) => names.has(operator)

const ints = (...values: (bigint | number)[]) => tensor(values.map(BigInt))
const whole = (shape: number[]) => zeros(shape, { dtype: 'int64' })
const huge = 2n ** 62n
const image = randn([1, 2, 4, 4])
const many = randn([1, 200_000])
const one = ones([1])
const two = ones([2])
const none = zeros([0])
const all = [true, true, true]
const eps = 1e-5

type Call = [operator: string, code: string, args: () => unknown[]]

const shape = 'ERR_SHAPE_MISMATCH'
const argument = 'ERR_ARGUMENT'
const notImplemented = 'ERR_NOT_IMPLEMENTED'
const length = 'ERR_LENGTH_MISMATCH'

const norms: Call[] = [
  ['native_batch_norm', argument, () => [image, null, null, null, null, false, 0.1, eps]],
  ['native_batch_norm', shape, () => [many, null, null, one, one, false, 0.1, eps]],
  ['native_batch_norm', shape, () => [many, null, one, null, null, true, 0.1, eps]],
  ['_native_batch_norm_legit', argument, () => [image, null, null, false, 0.1, eps]],
  ['_native_batch_norm_legit', shape, () => [many, null, null, one, one, true, 0.1, eps]],
  ['_native_batch_norm_legit', shape, () => [many, one, null, true, 0.1, eps]],
  ['_native_batch_norm_legit_functional', shape, () => [many, null, null, one, one, true, 0.1, eps]],
  ['_native_batch_norm_legit_no_training', shape, () => [many, null, null, one, one, 0.1, eps]],
  ['_batch_norm_no_update', argument, () => [image, null, null, null, null, 0.1, eps]],
  ['_batch_norm_with_update', shape, () => [many, null, null, one, one, 0.1, eps]],
  ['_batch_norm_with_update_functional', shape, () => [many, null, null, one, one, 0.1, eps]],
  [
    'native_batch_norm_backward',
    argument,
    () => [image, image, null, null, null, null, null, true, eps, all],
  ],
  ['native_batch_norm_backward', argument, () => [image, image, null, null, null, two, two, false, eps, all]],
  ['native_batch_norm_backward', shape, () => [many, many, null, null, null, one, one, true, eps, all]],
  ['batch_norm_backward', argument, () => [image, image, two, null, null, null, null, true, eps, all, none]],
  ['batch_norm_backward', shape, () => [image, one, two, two, two, two, two, true, eps, all, none]],
  [
    '_batch_norm_impl_index_backward',
    argument,
    () => [0, image, image, null, null, null, null, null, true, eps, all, none],
  ],
  [
    'native_batch_norm_backward',
    shape,
    () => [zeros([0, 2, 1]), zeros([0, 2, 1]), null, two, two, two, two, true, eps, all],
  ],
  ['native_group_norm', argument, () => [image, null, null, 1, 2, 16, 0, eps]],
  ['native_group_norm', shape, () => [image, null, null, 400, 2, 16, 1, eps]],
  ['native_group_norm', shape, () => [image, one, null, 1, 2, 16, 1, eps]],
  ['_weight_norm', shape, () => [none, zeros([2, 4, 0])]],
  ['_weight_norm', shape, () => [zeros([0], { dtype: 'bfloat16' }), zeros([2, 4, 0])]],
  ['_weight_norm', shape, () => [randn([4]), zeros([2, 0, 4])]],
  ['_weight_norm', shape, () => [randn([400, 3]), randn([1, 1])]],
]

const pads: Call[] = [1, 2, 3].flatMap((dims): Call[] => {
  const input = randn([1, ...Array<number>(dims).fill(4)])
  const large = randn(
    [1, ...Array<number>(dims).fill(400)].slice(0, 3).concat(Array(Math.max(dims - 2, 0)).fill(1)),
  )
  const padding = (each: number) => Array<number>(2 * dims).fill(each)
  return ['reflection', 'replication'].flatMap((kind): Call[] => [
    [`${kind}_pad${dims}d_backward`, length, () => [input, input, []]],
    [`${kind}_pad${dims}d_backward`, shape, () => [large, input, padding(1)]],
    [`${kind}_pad${dims}d_backward`, shape, () => [input, large, padding(0)]],
    [`${kind}_pad${dims}d_backward`, argument, () => [input, input, padding(-400)]],
  ])
})

const pools: Call[] = [
  ['adaptive_max_pool2d_backward', shape, () => [ones([1, 400, 2, 2]), image, whole([1, 400, 2, 2])]],
  ['adaptive_max_pool2d_backward', shape, () => [ones([1, 2, 2, 2]), image, whole([1])]],
  ['adaptive_max_pool3d_backward', shape, () => [ones([400, 1, 2, 2]), image, whole([400, 1, 2, 2])]],
  ['_adaptive_avg_pool2d_backward', shape, () => [ones([1, 400, 2, 2]), image]],
  ['_adaptive_avg_pool3d_backward', shape, () => [ones([400, 1, 2, 2]), image]],
]

const transforms: Call[] = [
  ['_fft_r2c', argument, () => [randn([2, 2]), [huge], 0, true]],
  ['_fft_r2c', argument, () => [randn([2, 2, 9]), [1, 1, 8], 0, true]],
  ['_fft_r2c', argument, () => [randn([2, 2]), [-2], 0, true]],
  ['_fft_r2c', argument, () => [randn([2, 2]), [1, 1], 0, true]],
  ['_fft_r2c', argument, () => [randn([2, 2]), [], 0, true]],
  ['_fft_c2c', argument, () => [torch.complex(one, one), [2, 8, 3, 1], 0, true]],
  ['_fft_c2r', argument, () => [torch.complex(one, one), [8, 8], 0, 1]],
  ['_fft_c2r', argument, () => [torch.complex(one, one), [0], 0, 400_000]],
]

const rnn = (changed: Record<number, unknown>): unknown[] => {
  const state = randn([1, 2, 4])
  const weights = [randn([16, 3]), randn([16, 4]), randn([16]), randn([16])]
  const args = [randn([5, 2, 3]), ...weights, state, state, false, [], 2, 4, 1, true, false, false, false]
  return args.map((each, i) => (i in changed ? changed[i] : each))
}

const others: Call[] = [
  ['quantized_lstm_cell', length, () => [image, [], ...Array<Tensor>(8).fill(image), 1, 1, 0, 0]],
  ['quantized_lstm_cell', length, () => [image, [one], ...Array<Tensor>(8).fill(image), 1, 1, 0, 0]],
  [
    'lstm',
    length,
    () => [randn([1, 4, 2]), [randn([4, 1, 2]), randn([4, 1, 1])], [], false, 1, 0, false, true, false],
  ],
  ['mkldnn_rnn_layer', shape, () => rnn({ 0: randn([2]) })],
  ['mkldnn_rnn_layer', shape, () => rnn({ 1: one })],
  ['mkldnn_rnn_layer', shape, () => rnn({ 4: one })],
  ['mkldnn_rnn_layer', shape, () => rnn({ 6: one })],
  ['mkldnn_rnn_layer', argument, () => rnn({ 9: -7 })],
  ['mkldnn_rnn_layer', shape, () => rnn({ 10: 400_000 })],
  ['_stack', argument, () => [[]]],
  ['cat', argument, () => [[], { out: torch.quantizePerTensor(two, 0.1, 0, 'quint8') }]],
  ['triu', argument, () => [image, { out: zeros([4, 4, 2, 1]).permute([3, 2, 1, 0]) }]],
  ['copy', shape, () => [torch.toMkldnn(ones([2, 3])), zeros([0, 4, 2])]],
  ['_foreach_copy', length, () => [[], [one]]],
  ['_foreach_copy', notImplemented, () => [[torch.toMkldnn(ones([2, 3]))], [ones([2, 3])]]],
  ['_cholesky_solve_helper', shape, () => [randn([400, 400]), randn([2, 2]), false]],
  ['_compute_linear_combination', shape, () => [randn([2, 16]), randn([400, 16])]],
  ['_pdist_backward', shape, () => [one, randn([400, 3]), 2, one]],
  ['_slow_conv2d_backward', length, () => [image, image, randn([2, 2, 1, 1]), [1, 1], [1, 1], [], all]],
  ['_slow_conv2d_forward', argument, () => [image, randn([2, 2, 1, 1]), [1, 1], null, [0, 1], [0, 0]]],
  ['slow_conv3d', shape, () => [randn([1, 4, 8, 5, 3]), randn([4, 4, 1, 1, 1]), [2, 2, 1]]],
  [
    '_scaled_dot_product_flash_attention_for_cpu_backward',
    shape,
    () => [...Array<Tensor>(5).fill(randn([4, 5, 2, 16])), randn([1, 1, 4]), 0, false],
  ],
  [
    '_scaled_dot_product_flash_attention_for_cpu',
    shape,
    () => [...Array<Tensor>(3).fill(randn([2, 3, 0, 8]))],
  ],
  [
    'scaled_dot_product_attention',
    shape,
    () => [randn([2, 2, 4]), zeros([0, 4, 4]), zeros([0, 4, 4]), { enableGqa: true }],
  ],
  ['_transform_bias_rescale_qkv', shape, () => [zeros([8, 3, 0]), none, 3]],
  ['_transform_bias_rescale_qkv', argument, () => [randn([1, 2, 6]), randn([6]), 0]],
  ['_transform_bias_rescale_qkv', shape, () => [randn([1, 2, 6]), one, 1]],
  ['_convert_indices_from_csr_to_coo', shape, () => [whole([2, 2]), ints(0)]],
  ['_convert_indices_from_csr_to_coo', 'ERR_INDEX', () => [ints(0, huge).reshape([1, 2]), whole([1, 1])]],
  ['_nnpack_spatial_convolution', shape, () => [ones([]), randn([2, 2, 1, 1]), null, [0, 0]]],
  [
    '_nnpack_spatial_convolution',
    argument,
    () => [image, randn([2, 2, 1, 1]), null, [0, 0], { stride: [0, 0] }],
  ],
  ['_new_zeros_with_same_feature_meta', argument, () => [image, image, { selfNumBatchDims: -2 }]],
  ['_remove_batch_dim', 'ERR_INDEX', () => [one, 1, 2, -1]],
  ['_remove_batch_dim', 'ERR_INDEX', () => [one, 1, 2, 400_000]],
  ['_cummax_helper', shape, () => [randn([4000]), one, whole([1]), 0]],
  ['_cummin_helper', argument, () => [two, ones([2]), whole([2]), -2]],
  ['_logcumsumexp', 'ERR_DTYPE', () => [randn([400]), 0, { out: zeros([400], { dtype: 'bool' }) }]],
  ['_nested_compute_contiguous_strides_offsets', shape, () => [whole([2, 1, 4, 0])]],
  ['mkldnn_linear', shape, () => [torch.toMkldnn(ones([2, 3])), torch.toMkldnn(ones([1, 2, 3, 2, 2]))]],
  ['multi_margin_loss_backward', shape, () => [none, randn([2, 3]), ints(0, 1), 1, 1]],
  [
    'rnn_tanh',
    shape,
    () => [randn([1, 3]), whole([0]), one, Array<Tensor>(4).fill(one), true, 1, 1, false, false],
  ],
  ['_fused_sdp_choice', shape, () => [...Array<Tensor>(3).fill(zeros([2, 0, 2, 2])), { enableGqa: true }]],
  ['_softmax_backward_data', shape, () => [one, randn([400, 400]), 0, 'float32']],
  ['_log_softmax_backward_data', shape, () => [one, randn([400, 400]), 0, 'float32']],
  ['fbgemm_pack_gemm_matrix_fp16', shape, () => [zeros([16, 1, 0])]],
  ['_sobol_engine_initialize_state_', shape, () => [whole([2, 3]), 1]],
  ['_sparse_broadcast_to', notImplemented, () => [image, [0, 1]]],
  ['_nested_from_padded', shape, () => [randn([4, 8, 16, 16]), whole([1, 1, 2, 0, 4])]],
  ['_embedding_bag', shape, () => [zeros([8, 2]), whole([8, 0]), whole([8, 0])]],
  [
    '_unsafe_masked_index',
    'ERR_INDEX',
    () => [zeros([2, 5, 0]), whole([2, 5, 0]), Array<Tensor>(4).fill(whole([2, 5, 0])), 1],
  ],
  ['_chunk_cat', shape, () => [[ones([])], 0, 2]],
  ['_pdist_forward', shape, () => [zeros([16, 4, 0, 4])]],
  ['_dyn_quant_pack_4bit_weight', argument, () => [zeros([2, 8], { dtype: 'uint8' }), two, two, 0, 2, -2]],
  ['_reshape_alias_copy', shape, () => [two, [400, 400], [400, 1]]],
  ['_saturate_weight_to_fp16', shape, () => [zeros([8, 5, 0])]],
  ['fbgemm_linear_quantize_weight', shape, () => [zeros([2, 1, 0])]],
  ['smooth_l1_loss_backward', argument, () => [ints(1), ints(1), ints(1), 0, 0]],
  ['index_copy_', notImplemented, () => [image.clone(), 2, torch.toMkldnn(ones([2, 3])), image]],
  ['index_copy_', notImplemented, () => [image.clone(), 2, ints(0), torch.toMkldnn(ones([2, 3]))]],
  ['_neg_view_copy', notImplemented, () => [torch.quantizePerTensor(two, 0.1, 0, 'quint8')]],
  ['view_copy', notImplemented, () => [torch.quantizePerTensor(two, 0.1, 0, 'quint8'), 'bool']],
  ['range', argument, () => [0, 1, { step: 0.1, dtype: 'int64' }]],
  [
    '_segment_reduce_backward',
    shape,
    () => [randn([8, 8]), randn([8, 8]), randn([8, 8]), 'mean', { lengths: whole([2, 8]), axis: 1 }],
  ],
  [
    '_ctc_loss_backward',
    length,
    () => [one, randn([8, 1, 3]), whole([1, 2]), [], [2], one, randn([1, 8, 5]), 0],
  ],
  [
    '_ctc_loss_backward',
    shape,
    () => [one, randn([8, 1, 3]), whole([1, 2]), [8], [2], one, randn([1, 8, 2]), 0],
  ],
]

describe.each([
  ['norms', norms],
  ['padding', pads],
  ['pooling', pools],
  ['Fourier transforms', transforms],
  ['others', others],
])('%s', (_, calls) => {
  it.each(calls.filter(exists))('%s: %s', (operator, code, args) => {
    const error = errorOf(() => aten[operator]!(...args()))
    expect(error.code, error.message).toBe(code)
    expect(error.message).toMatch(/: expected .+, got /)
  })
})

const batchOfRows: [string, () => unknown[]] = [
  '_convert_indices_from_csr_to_coo',
  () => [whole([2, 2]), whole([2, 0])],
]

describe('calls that fit are as before', () => {
  const fitting: [string, () => unknown[]][] = [
    // 1.13 has no batches of them.
    ...(isOldest ? [] : [batchOfRows]),
    ['native_batch_norm', () => [image, null, null, null, null, true, 0.1, eps]],
    ['native_batch_norm', () => [image, two, two, two, two, false, 0.1, eps]],
    ['native_batch_norm_backward', () => [image, image, two, two, two, two, two, true, eps, all]],
    ['native_batch_norm_backward', () => [image, image, null, two, two, null, null, false, eps, all]],
    ['native_group_norm', () => [image, two, two, 1, 2, 16, 2, eps]],
    ['native_group_norm', () => [zeros([0, 2, 4]), two, two, 0, 2, 4, 2, eps]],
    ['_weight_norm', () => [randn([4, 3]), randn([4, 1])]],
    ['_weight_norm', () => [randn([4, 3]), randn([1, 3]), { dim: 1 }]],
    ['_weight_norm', () => [randn([4, 3, 2]), randn([1]), { dim: 1 }]],
    ['reflection_pad1d_backward', () => [randn([1, 7]), randn([1, 4]), [1, 2]]],
    ['reflection_pad2d_backward', () => [randn([1, 5, 3]), randn([1, 4, 4]), [-1, 0, 1, 0]]],
    ['replication_pad3d_backward', () => [randn([1, 4, 4, 14]), randn([1, 4, 4, 4]), [9, 1, 0, 0, 0, 0]]],
    ['adaptive_max_pool2d_backward', () => [ones([1, 2, 2, 2]), image, whole([1, 2, 2, 2])]],
    ['_adaptive_avg_pool2d_backward', () => [ones([1, 2, 3, 1]), image]],
    ['_fft_r2c', () => [randn([2, 3]), [0, 1], 2, true]],
    ['_fft_c2r', () => [torch.complex(two, two), [0], 0, 3]],
    ['_fft_c2c', () => [torch.complex(two, two), [], 0, true]],
    ['mkldnn_rnn_layer', () => rnn({})],
    ['_stack', () => [[one, one]]],
    ['_foreach_copy', () => [[one], [one]]],
    ['_cholesky_solve_helper', () => [randn([2, 3, 1]), ones([2, 3, 3]), false]],
    ['_slow_conv2d_forward', () => [image, randn([2, 2, 1, 1]), [1, 1], null, [1, 1], [0, 0]]],
    ['_transform_bias_rescale_qkv', () => [randn([1, 2, 6]), randn([6]), 2]],
    ['_convert_indices_from_csr_to_coo', () => [ints(0, 1, 2), ints(0, 1)]],
    ['_softmax_backward_data', () => [two, two, 0, 'float32']],
    ['_new_zeros_with_same_feature_meta', () => [image, image, { selfNumBatchDims: 1 }]],
    ['_remove_batch_dim', () => [one, 1, 2, 0]],
    ['slow_conv3d', () => [randn([1, 4, 8, 5, 3]), randn([4, 4, 2, 2, 1]), [2, 2, 1]]],
    ['_nested_compute_contiguous_strides_offsets', () => [whole([2, 1])]],
    ['multi_margin_loss_backward', () => [one, randn([2, 3]), ints(0, 1), 1, 1]],
    ['multi_margin_loss_backward', () => [two, randn([2, 3]), ints(0, 1), 1, 1, { reduction: 0 }]],
    ['multilabel_margin_loss_backward', () => [one, randn([3]), ints(0, 1, -1), 0, zeros([3])]],
    ['triu', () => [image, { out: zeros([1, 2, 4, 4]) }]],
    ['tril', () => [randn([2, 3]), { out: zeros([3, 2]).t() }]],
    ['_unsafe_masked_index', () => [two, tensor([true, false]), [ints(0, 1)], 1]],
    [
      '_unsafe_masked_index',
      () => [randn([2, 3]), tensor([[true], [true]]), [null, ints(0).reshape([1, 1])], 1],
    ],
    ['index_copy_', () => [image.clone(), 1, ints(1, 0), image]],
    ['view_copy', () => [two, 'int32']],
    ['smooth_l1_loss_backward', () => [one, one, two, 0, 0]],
    ['range', () => [0, 3, { step: 1.5, dtype: 'int64' }]],
  ]
  it.each(fitting.filter(exists))('%s', (operator, args) => {
    expect(() => aten[operator]!(...args())).not.toThrow()
  })
})
