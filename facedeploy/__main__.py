"""`python -m facedeploy`."""

from facedeploy.cli.app import main

main()
