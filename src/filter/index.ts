// Filters: tcpdump's language, compiled for TypeScript, classic BPF and eBPF.
export { defineFilterProgram, matchFilter, requireMatch, type FilterVerdicts } from './ebpf.js'
export type { FilterReach } from './translate.js'
export { FilterError, type FilterErrorCode } from './error.js'
export { Filter, compileFilter, type Explanation, type FilterOptions } from './filter.js'
export { fileResolver, type Resolver, type SystemFiles } from './resolve.js'
