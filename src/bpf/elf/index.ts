// Objects compiled by clang: read, inspected, adjusted, loaded.
export { ElfError } from './error.js'
export type { LinkedProgram } from './link.js'
export type { LoadObjectOptions } from './load.js'
export { LoadedObject } from './loaded.js'
export type { ObjectGlobal } from './contents.js'
export { BpfObject, type ObjectMap, type ObjectProgram } from './object.js'
