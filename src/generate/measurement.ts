// Receives generated packets on AF_XDP sockets, and meters them.
import { Headers, parseHeaders } from '../packet/headers.js'
import { RedirectPortsProgram } from '../programs/redirect-ports.js'
import { type PacketHandler, type SteeringProgram, XdpGroup, type XdpGroupOptions } from '../xsk/index.js'
import { ArrivalClock } from './arrival-clock.js'
import { Meter, type MeterReport } from './meter.js'
import { type Stamp, readStamp } from './stamp.js'
import { DISCARD_PORT } from './templates.js'

export interface MeasurementOptions extends Omit<XdpGroupOptions, 'program'> {
  /** The UDP port that the packets are sent to. What goes elsewhere passes to the kernel. Default 9, discard. */
  port?: number
  /** Take what is tagged with these VLANs too: one tag, ids from 0 to 4095. Default: only what is untagged. */
  vlans?: readonly number[]
  /**
   * A program that gives packets to the sockets, in the place of the one that takes what is sent to `port`. What it gives beside
   * generated packets is dropped, and counted as unstamped.
   */
  program?: NonNullable<XdpGroupOptions['program']>
  /** Only this stream. Default: the first that comes. */
  stream?: number
}

/** Takes the packets of a stream off an interface and says what became of it. Made by `open`. */
export class Measurement {
  readonly group: XdpGroup
  readonly #meter: Meter
  readonly #headers = new Headers()
  readonly #stamp: Stamp = { stream: 0, sequence: 0, time: 0 }
  readonly #clock = new ArrivalClock()
  #unstamped = 0

  private constructor(group: XdpGroup, stream: number | undefined) {
    this.group = group
    this.#meter = new Meter(stream)
  }

  /** Opens sockets on the interface. Throws as `XdpGroup.open` does. */
  static async open({
    port = DISCARD_PORT,
    vlans = [],
    stream,
    program = forPort(port, vlans),
    ...options
  }: MeasurementOptions): Promise<Measurement> {
    const group = await XdpGroup.open({ ...options, program })
    return new Measurement(group, stream)
  }

  /** Takes packets until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await this.group.run(this.#handle, { signal })
  }

  /** What has come so far, and packets for the port without a stamp. */
  report(): MeterReport & { unstamped: number } {
    return { ...this.#meter.report(), unstamped: this.#unstamped }
  }

  /** Closes the sockets. */
  async close(): Promise<void> {
    await this.group.close()
  }

  readonly #handle: PacketHandler = ({ bytes, offset, length }) => {
    const { payloadOffset, payloadEnd } = parseHeaders(bytes, offset, length, this.#headers)
    if (payloadOffset >= 0 && readStamp(bytes, payloadOffset, payloadEnd - payloadOffset, this.#stamp)) {
      this.#meter.record(this.#stamp, length, this.#clock.at(this.#stamp.time))
    } else this.#unstamped++
    return undefined
  }
}

/** Loads the program that takes what is sent to a port. */
function forPort(port: number, vlans: readonly number[]): (shape: { queues: number }) => SteeringProgram {
  return ({ queues }) => {
    const program = RedirectPortsProgram.load({ queues, vlans: vlans.length > 0 })
    program.add({ port, protocol: 'udp' })
    for (const id of vlans) program.addVlan(id)
    return program
  }
}
