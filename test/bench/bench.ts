/** The numbers: how soon a change is visible, what a seed costs, what a large tree costs, what an idle agent costs. */
