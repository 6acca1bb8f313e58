/** The methods of distillation, each a term of an objective: the namespace `methods`. */
import { Attention } from './attention.js'
import { CrossEntropy } from './cross-entropy.js'
import { Features } from './features.js'
import { KD } from './kd.js'
import { register } from './registry.js'

export { Attention, type AttentionOptions } from './attention.js'
export { CrossEntropy, type CrossEntropyOptions } from './cross-entropy.js'
export { Features, type FeaturesOptions } from './features.js'
export { KD, type KDOptions } from './kd.js'
export { create, names, register, type TermFactory } from './registry.js'

register('attention', options => new Attention(options))
register('crossEntropy', options => new CrossEntropy(options))
register('features', options => new Features(options))
register('kd', options => new KD(options))
