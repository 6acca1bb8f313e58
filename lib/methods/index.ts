/** The methods of distillation, each a term of an objective: the namespace `methods`. */
import { Attention, attentionOptions } from './attention.js'
import { CrossEntropy, crossEntropyOptions } from './cross-entropy.js'
import { Features, featuresOptions } from './features.js'
import { KD, kdOptions } from './kd.js'
import { registry } from './registry.js'

export { Attention, type AttentionOptions } from './attention.js'
export { CrossEntropy, type CrossEntropyOptions } from './cross-entropy.js'
export { Features, type FeaturesOptions } from './features.js'
export { KD, type KDOptions } from './kd.js'
export { create, names, register, type TermFactory } from './registry.js'

registry.add('attention', {
  make: options => new Attention(options),
  options: attentionOptions,
  description:
    'Where activations are strong: the distance of the attention maps. Zagoruyko & Komodakis, 2017.',
})
registry.add('crossEntropy', {
  make: options => new CrossEntropy(options),
  options: crossEntropyOptions,
  description: "The classification: cross-entropy of the student's logits with the labels.",
})
registry.add('features', {
  make: options => new Features(options),
  options: featuresOptions,
  description: 'The distance of the features. Romero et al., 2015.',
})
registry.add('kd', {
  make: options => new KD(options),
  options: kdOptions,
  description: 'The divergence of the softened outputs. Hinton et al., 2015.',
})
