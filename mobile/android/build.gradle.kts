// A library module: the Kotlin class facedeploy.FaceDetector over C++. For the Android Gradle plugin 9, which brings
// Kotlin itself; with 8 add id("org.jetbrains.kotlin.android").
plugins {
    id("com.android.library")
}

android {
    namespace = "facedeploy.android"
    compileSdk = 36
    ndkVersion = "28.2.13676358"

    defaultConfig {
        minSdk = 23
        consumerProguardFiles("consumer-rules.pro")
        ndk { abiFilters += setOf("arm64-v8a", "armeabi-v7a", "x86_64") }
        externalNativeBuild { cmake { arguments += "-DANDROID_SUPPORT_FLEXIBLE_PAGE_SIZES=ON" } }
    }
    externalNativeBuild { cmake { path = file("src/main/cpp/CMakeLists.txt") } }
}
