/** True in `--mode demo` only; a constant of the build, so that the other builds drop the simulator. */
declare const __SIMULATED__: boolean;
