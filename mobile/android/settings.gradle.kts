// For a build of this folder alone (gradle assembleRelease writes an .aar). An app that includes the folder as a module
// has settings of its own.
pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
    plugins {
        id("com.android.library") version "9.0.0"
    }
}

dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}

rootProject.name = "facedeploy"
