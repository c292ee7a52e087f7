// The module of the benchmark's workers: takes packets and forgets them.
import type { WorkerModule } from '../src/xsk/index.js'

const start: WorkerModule = () => () => undefined
export default start
