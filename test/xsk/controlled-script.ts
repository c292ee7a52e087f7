// A thread for tests of what starts and ends threads: says what it was given, and does what it is told.
import { parentPort, workerData } from 'node:worker_threads'
import { takeControl, type ThreadControl } from '../../src/xsk/thread-control.js'

/** What the thread is to do by itself: fail before it is ready, or not to care about being told to stop. */
export type ControlledData = { greeting: string; does?: 'throw' | 'exit' | 'ignore' | 'nothing' }

/** What it can be told. `block` is to stand still for so many milliseconds, and `count` to count without turning its event loop. */
export type ControlledOrder = 'hang' | 'throw' | 'exit' | { block: number } | { count: Int32Array }

const { greeting, does, control } = workerData as ControlledData & { control: ThreadControl }
const { signal, ready } = takeControl(control)
if (does === 'throw') throw new RangeError('on purpose')
if (does === 'exit') process.exit(4)
if (does === 'nothing') await new Promise((resolve) => setTimeout(resolve, 2 ** 30))
parentPort?.on('message', (order: ControlledOrder) => {
  if (order === 'throw') throw new RangeError('on purpose')
  if (order === 'exit') process.exit(3)
  if (order === 'hang') for (;;);
  if ('count' in order) {
    const pause = new Int32Array(new SharedArrayBuffer(4))
    while (Atomics.load(order.count, 1) === 0) {
      Atomics.add(order.count, 0, 1)
      Atomics.wait(pause, 0, 0, 1)
    }
  } else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, order.block)
  parentPort?.postMessage('done')
})
signal.addEventListener('abort', () => {
  if (does === 'ignore') return
  parentPort?.postMessage('bye')
  process.exit(0)
})
parentPort?.postMessage(greeting)
ready()
