// xdp lab: a virtual network to try things in. This file is the tree of its commands; src/cli/lab/ has what they do.
import { Command } from 'commander'
import { addLifeCommands } from './lab/life.js'
import { addProgramCommands } from './lab/programs.js'
import { addRunCommands } from './lab/run.js'
import { addShowCommands } from './lab/show.js'

export function labCommand(): Command {
  const lab = new Command('lab')
    .summary('virtual networks to try things in')
    .description(
      'Makes and uses labs: two interfaces, a and b, joined by a virtual cable. End a is an interface of ' +
        'this machine with the name of the lab, end b lives in a network namespace of its own.',
    )
    .addHelpText(
      'after',
      `
An example, in two terminals:
  xdp lab up            make the lab xdplab0
  xdp pong xdplab0      answer at end a          xdp lab ping      ask from end b
  xdp lab down          remove it`,
    )
  addLifeCommands(lab)
  addRunCommands(lab)
  addProgramCommands(lab)
  addShowCommands(lab)
  return lab
}
