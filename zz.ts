import { randn, tensor, zeros, FeatureDistillationLoss, AttentionTransfer, LogitsDistillationLoss, models, nn, torch, noGrad } from './lib/index.js'
const a = randn([2,3,4,4], {requiresGrad: true}), b = randn([2,3,4,4])
for (const criterion of ['mse','cosine'] as const) console.log(new FeatureDistillationLoss({criterion} as never).forward([a] as never,[b] as never, randn([2,3],{requiresGrad:true}) as never, tensor([0n,1n]) as never))
console.log(new AttentionTransfer().forward([a] as never,[b] as never, randn([2,3],{requiresGrad:true}) as never, tensor([0n,1n]) as never))
try { console.log(new LogitsDistillationLoss({} as never).forward(randn([2,3],{requiresGrad:true}) as never, randn([2,3]) as never, tensor([0n,1n]) as never)) } catch(e) {console.log(String(e))}
console.log(new nn.BatchNorm2d(3).forward(a).gradFn, new nn.Conv2d(3,4,3).forward(a).gradFn, new nn.Linear(4,2).forward(a).gradFn)
console.log(models.resnet18({} as never).forward(randn([1,3,32,32])).gradFn)
const c = a.clone(); c.at(0).mul_(2); console.log(c.gradFn, c.at(0).gradFn, a.at(0).gradFn)
const v = noGrad(() => { const t = zeros([3]); return t }); 
const l = zeros([3],{requiresGrad:true}); let view: any; noGrad(()=>{view=l.at(0)}); try { view.add_(1) } catch(e) { console.log(String(e)) } 
const names = Object.keys(Object.getPrototypeOf(Object.getPrototypeOf(a))).length
for (const n of ['storageOffset','elementSize','isFloatingPoint','isComplex','numpyT','mT','mH','matrixH','T','H','nelement','stride','isSameSize','typeAs','newZeros','newFull','isConj','isNeg','half','long','float','requiresGrad_','dataPtr','isPinned','dense_dim','isInference','real','imag','new','data','itemsize','nbytes','isQuantized','isSigned','reshapeAs','viewAs','unflatten','unique','norm','stft','map_','apply_']) console.log(n, typeof (a as any)[n])
console.log((a as any).storageOffset?.(), (a as any).stride?.length)
