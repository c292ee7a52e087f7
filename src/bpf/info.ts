// What the kernel says of loaded programs, maps and links, by descriptor or by id (BPF_OBJ_GET_INFO_BY_FD).
import { readlinkSync } from 'node:fs'
import { OptionError } from '../kernel/errors.js'
import { native } from '../kernel/native.js'
import { Attr, ENABLE_STATS, GET_ID, INFO, placePointers } from './attr.js'
import {
  type LinkType,
  type MapType,
  type ProgramType,
  linkTypeNames,
  mapTypeNames,
  programTypeNames,
} from './constants.js'
import { EAGAIN, ENOENT } from '../kernel/errno.js'
import { type Command, bpf, bpfChecked, bpfError } from './syscall.js'

const textDecoder = new TextDecoder()
const BPF_STATS_RUN_TIME = 0

// Sizes of the structures up to the last field read here. The kernel fills as much as both sides know.
const PROG_INFO_BYTES = 232
const MAP_INFO_BYTES = 88
const LINK_INFO_BYTES = 64

// Offsets in struct bpf_prog_info of the arrays that are asked for by pointer.
const AT_XLATED_LENGTH = 20
const AT_XLATED = 32
const AT_MAP_COUNT = 52
const AT_MAP_IDS = 56

/** A loaded program: `struct bpf_prog_info`. */
export interface ProgramInfo {
  id: number
  /** `unknown` for a type newer than this package. */
  type: ProgramType | 'unknown'
  name: string
  /** 16 hex digits: a hash of the instructions. */
  tag: string
  /** Size of the translated instructions in bytes. */
  translatedBytes: number
  /** Size of the machine code in bytes; 0 when not compiled. */
  compiledBytes: number
  /** Nanoseconds since boot when it was loaded. */
  loadedAt: bigint
  createdByUid: number
  mapIds: number[]
  gplCompatible: boolean
  /** 0 without BTF. */
  btfId: number
  /** The device it is bound to; 0 for none. */
  ifindex: number
  /** Nanoseconds spent in it while statistics were on (5.1). */
  runTimeNs: bigint
  /** How often it ran while statistics were on (5.1). */
  runCount: bigint
  /** Instructions the verifier walked (5.16). */
  verifiedInstructions: number
}

/** A map: `struct bpf_map_info`. */
export interface MapInfo {
  id: number
  type: MapType | 'unknown'
  name: string
  keySize: number
  valueSize: number
  maxEntries: number
  /** BPF_F_… as given at creation. */
  flags: number
  ifindex: number
  btfId: number
  btfKeyTypeId: number
  btfValueTypeId: number
  /** `map_extra`, whose meaning is the type's (5.16). */
  extra: number
}

/** A link: `struct bpf_link_info` (5.8). */
export interface LinkInfo {
  id: number
  type: LinkType | 'unknown'
  programId: number
  /** The device of an XDP link; 0 once the device is gone. Absent for other links. */
  ifindex?: number
}

/** What a loaded program is, by its descriptor. */
export function programInfo(fd: number): ProgramInfo {
  let view = objectInfo(fd, PROG_INFO_BYTES)
  const mapIds = new Uint32Array(view.getUint32(AT_MAP_COUNT, true))
  if (mapIds.length > 0) {
    view = objectInfo(fd, PROG_INFO_BYTES, {
      countAt: AT_MAP_COUNT,
      count: mapIds.length,
      pointerAt: AT_MAP_IDS,
      buffer: mapIds,
    })
  }
  return {
    id: view.getUint32(4, true),
    type: programTypeNames.get(view.getUint32(0, true)) ?? 'unknown',
    name: text(view, 64, 16),
    tag: hex(view, 8, 8),
    compiledBytes: view.getUint32(16, true),
    translatedBytes: view.getUint32(20, true),
    loadedAt: view.getBigUint64(40, true),
    createdByUid: view.getUint32(48, true),
    mapIds: [...mapIds],
    ifindex: view.getUint32(80, true),
    gplCompatible: (view.getUint32(84, true) & 1) === 1,
    btfId: view.getUint32(128, true),
    runTimeNs: view.getBigUint64(192, true),
    runCount: view.getBigUint64(200, true),
    verifiedInstructions: view.getUint32(216, true),
  }
}

/**
 * The instructions of a loaded program after the kernel's rewriting, as bytes for `disassemble`. Empty
 * when the kernel keeps them back (kptr_restrict, missing CAP_BPF).
 */
export function translatedInstructions(fd: number): Uint8Array {
  const bytes = new Uint8Array(objectInfo(fd, PROG_INFO_BYTES).getUint32(AT_XLATED_LENGTH, true))
  if (bytes.length === 0) return bytes
  const filled = objectInfo(fd, PROG_INFO_BYTES, {
    countAt: AT_XLATED_LENGTH,
    count: bytes.length,
    pointerAt: AT_XLATED,
    buffer: bytes,
  })
  // The kernel zeroes the pointer when it does not want the instructions seen.
  return filled.getBigUint64(AT_XLATED, true) === 0n ? new Uint8Array(0) : bytes
}

/** What a map is, by its descriptor. */
export function mapInfo(fd: number): MapInfo {
  const view = objectInfo(fd, MAP_INFO_BYTES)
  return {
    type: mapTypeNames.get(view.getUint32(0, true)) ?? 'unknown',
    id: view.getUint32(4, true),
    keySize: view.getUint32(8, true),
    valueSize: view.getUint32(12, true),
    maxEntries: view.getUint32(16, true),
    flags: view.getUint32(20, true),
    name: text(view, 24, 16),
    ifindex: view.getUint32(40, true),
    btfId: view.getUint32(64, true),
    btfKeyTypeId: view.getUint32(68, true),
    btfValueTypeId: view.getUint32(72, true),
    extra: Number(view.getBigUint64(80, true)),
  }
}

/** What a link is, by its descriptor. Kernel 5.8. */
export function linkInfo(fd: number): LinkInfo {
  const view = objectInfo(fd, LINK_INFO_BYTES)
  const type = linkTypeNames.get(view.getUint32(0, true)) ?? 'unknown'
  const info: LinkInfo = { type, id: view.getUint32(4, true), programId: view.getUint32(8, true) }
  if (type === 'xdp') info.ifindex = view.getUint32(16, true)
  return info
}

/** Kinds of objects that have ids. */
export type ObjectKind = 'program' | 'map' | 'link'

const idCommands: Record<ObjectKind, { next: Command; open: Command }> = {
  program: { next: 'PROG_GET_NEXT_ID', open: 'PROG_GET_FD_BY_ID' },
  map: { next: 'MAP_GET_NEXT_ID', open: 'MAP_GET_FD_BY_ID' },
  link: { next: 'LINK_GET_NEXT_ID', open: 'LINK_GET_FD_BY_ID' },
}

/** The ids of all objects of a kind, in rising order. Needs CAP_SYS_ADMIN; links kernel 5.8. */
export function* objectIds(kind: ObjectKind): Generator<number, void> {
  const command = idCommands[kind].next
  for (let id = 0; ;) {
    const attr = new Attr(GET_ID, { id }, 'next_id')
    const result = bpf(command, attr)
    if (result === -ENOENT) return
    if (result < 0) throw bpfError(command, -result)
    id = attr.get('next_id')
    yield id
  }
}

/** Opens an object by id: a descriptor that the caller owns, or undefined when there is no such object. */
export function openById(kind: ObjectKind, id: number): number | undefined {
  const command = idCommands[kind].open
  const result = bpf(command, new Attr(GET_ID, { id }))
  // EAGAIN: another process is just making that link, and has not been told its id yet (bpf_link_by_id).
  if (result === -ENOENT || result === -EAGAIN) return undefined
  if (result < 0) throw bpfError(command, -result, { about: `${kind} id ${id}` })
  return result
}

// What /proc calls the descriptors of each kind (anon_inode:bpf-map and so on; bpf_link before 6.x, bpf-link after).
const kindPatterns: Record<ObjectKind, RegExp> = { program: /bpf-prog/, map: /bpf-map/, link: /bpf[-_]link/ }

/**
 * Throws `OptionError` when a descriptor is of another kind of object: the kernel itself would answer with the info of
 * whatever it is.
 */
export function assertKind(fd: number, kind: ObjectKind, what: string): void {
  const target = readlinkSync(`/proc/self/fd/${fd}`)
  if (!kindPatterns[kind].test(target)) {
    throw new OptionError(kind, `${what} is no BPF ${kind} but ${target.replace('anon_inode:', '')}`)
  }
}

/** Info of a program by id; undefined when there is no such program. */
export const programInfoById = (id: number): ProgramInfo | undefined => byId('program', id, programInfo)
/** Info of a map by id; undefined when there is no such map. */
export const mapInfoById = (id: number): MapInfo | undefined => byId('map', id, mapInfo)
/** Info of a link by id; undefined when there is no such link. */
export const linkInfoById = (id: number): LinkInfo | undefined => byId('link', id, linkInfo)

/**
 * Turns on run-time statistics (`runTimeNs`, `runCount`) of all programs of the system, until every such handle is
 * closed. Costs some 20 ns a run. Kernel 5.8, CAP_SYS_ADMIN.
 */
export function enableRunStatistics(): { close(): void } {
  const attr = new Attr(ENABLE_STATS, { type: BPF_STATS_RUN_TIME }, 'type')
  let fd = bpfChecked('ENABLE_STATS', attr, { hint: 'Needs kernel 5.8 and CAP_SYS_ADMIN.' })
  return {
    close() {
      if (fd >= 0) native.close(fd)
      fd = -1
    },
  }
}

function byId<T>(kind: ObjectKind, id: number, read: (fd: number) => T): T | undefined {
  const fd = openById(kind, id)
  if (fd === undefined) return undefined
  try {
    return read(fd)
  } finally {
    native.close(fd)
  }
}

/** An array that the structure points to, with the place of its length. */
interface InfoArray {
  countAt: number
  count: number
  pointerAt: number
  buffer: Uint8Array | Uint32Array
}

/** One BPF_OBJ_GET_INFO_BY_FD. */
function objectInfo(fd: number, length: number, array?: InfoArray): DataView {
  const bytes = new Uint8Array(length)
  const view = new DataView(bytes.buffer)
  if (array) {
    view.setUint32(array.countAt, array.count, true)
    placePointers(bytes, [array.pointerAt, array.buffer])
  }
  bpfChecked('OBJ_GET_INFO_BY_FD', new Attr(INFO, { bpf_fd: fd, info_len: length, info: bytes }))
  return view
}

function text(view: DataView, at: number, length: number): string {
  const bytes = new Uint8Array(view.buffer, view.byteOffset + at, length)
  const end = bytes.indexOf(0)
  return textDecoder.decode(end < 0 ? bytes : bytes.subarray(0, end))
}

function hex(view: DataView, at: number, length: number): string {
  return Buffer.from(view.buffer, view.byteOffset + at, length).toString('hex')
}
